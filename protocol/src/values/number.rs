//! Whole numbers as they are read.

use serde::de::Visitor;

use super::error::ValueError;

/// A whole number of any size.
pub(super) enum Number {
    Unsigned(u64),
    Negative(i64),
    Wide(u128),
    WideNegative(i128),
}

impl Number {
    pub(super) fn visit<'de, V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ValueError> {
        match self {
            Self::Unsigned(number) => visitor.visit_u64(number),
            Self::Negative(number) => visitor.visit_i64(number),
            Self::Wide(number) => visitor.visit_u128(number),
            Self::WideNegative(number) => visitor.visit_i128(number),
        }
    }

    /// As that type, if it fits.
    #[inline]
    pub(super) fn fit<T: TryFrom<u64> + TryFrom<i64> + TryFrom<u128> + TryFrom<i128>>(&self) -> Option<T> {
        match *self {
            Self::Unsigned(number) => number.try_into().ok(),
            Self::Negative(number) => number.try_into().ok(),
            Self::Wide(number) => number.try_into().ok(),
            Self::WideNegative(number) => number.try_into().ok(),
        }
    }
}

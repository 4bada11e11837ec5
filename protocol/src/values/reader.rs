//! Deserialiser: the kinds of values that types ask for, and those they get.

use serde::de::{Deserializer, Visitor};

use super::access::{Content, Owner, Variant};
use super::decode::{Decoder, left_over};
use super::error::{Step, ValueError};
use super::kind::*;

macro_rules! numbers {
    ($($method:ident $visit:ident;)*) => {
        $(
            #[inline]
            fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ValueError> {
                let kind = self.plain_kind()?;
                match self.number(kind)? {
                    None => self.any(kind, visitor),
                    Some(number) => match number.fit() {
                        Some(fitting) => visitor.$visit(fitting),
                        None => number.visit(visitor),
                    },
                }
            }
        )*
    };
}

macro_rules! as_any {
    ($($method:ident)*) => {
        $(
            #[inline]
            fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ValueError> {
                let kind = self.plain_kind()?;
                self.any(kind, visitor)
            }
        )*
    };
}

macro_rules! texts {
    ($($method:ident)*) => {
        $(
            #[inline]
            fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ValueError> {
                let kind = self.plain_kind()?;
                match self.text(kind)? {
                    Some(text) => visitor.visit_borrowed_str(text),
                    None => self.any(kind, visitor),
                }
            }
        )*
    };
}

macro_rules! blocks {
    ($($method:ident)*) => {
        $(
            fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ValueError> {
                match self.plain_kind()? {
                    PACKED_BYTES => visitor.visit_borrowed_bytes(self.block()?),
                    kind => self.any(kind, visitor),
                }
            }
        )*
    };
}

impl<'de> Deserializer<'de> for &mut Decoder<'de> {
    type Error = ValueError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ValueError> {
        let before = self.nesting.enter_unknown();
        let kind = self.kind()?;
        let value = self.any(kind, visitor)?;
        self.nesting.restore(&before);
        Ok(value)
    }

    numbers! {
        deserialize_u8 visit_u8;
        deserialize_u16 visit_u16;
        deserialize_u32 visit_u32;
        deserialize_u64 visit_u64;
        deserialize_u128 visit_u128;
        deserialize_i8 visit_i8;
        deserialize_i16 visit_i16;
        deserialize_i32 visit_i32;
        deserialize_i64 visit_i64;
        deserialize_i128 visit_i128;
    }

    as_any!(deserialize_bool deserialize_f32 deserialize_char deserialize_map deserialize_ignored_any);

    #[inline]
    fn deserialize_f64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ValueError> {
        match self.plain_kind()? {
            REAL_8 => visitor.visit_f64(f64::from_bits(u64::from_le_bytes(self.rest.array()?))),
            kind => self.any(kind, visitor),
        }
    }

    texts!(deserialize_str deserialize_string deserialize_identifier);
    blocks!(deserialize_bytes deserialize_byte_buf);

    #[inline]
    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ValueError> {
        let kind = self.peek()?;
        if let NONE | UNIT = kind {
            self.rest.byte()?;
            return visitor.visit_none();
        }
        if kind == SOME {
            self.rest.byte()?;
        }
        self.visit_some(visitor)
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ValueError> {
        match self.plain_kind()? {
            NONE => visitor.visit_unit(),
            kind => self.any(kind, visitor),
        }
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, ValueError> {
        self.deserialize_unit(visitor)
    }

    #[inline]
    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, ValueError> {
        self.nesting.enter()?;
        let value = visitor.visit_newtype_struct(&mut *self)?;
        self.nesting.leave();
        Ok(value)
    }

    #[inline]
    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ValueError> {
        let kind = self.plain_kind()?;
        self.sequence(kind, visitor)
    }

    #[inline]
    fn deserialize_tuple<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, ValueError> {
        self.deserialize_seq(visitor)
    }

    #[inline]
    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        length: usize,
        visitor: V,
    ) -> Result<V::Value, ValueError> {
        self.nameless(length, Some(name), visitor)
    }

    #[inline]
    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ValueError> {
        self.structure(Owner::Struct(name, fields), fields, visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        _variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ValueError> {
        let kind = self.plain_kind()?;
        let Some((variant, content)) = self.variant_of(kind)? else { return self.any(kind, visitor) };
        let left = self.rest.0.len();
        let read = visitor.visit_enum(Variant { decoder: self, variant, content, name });
        let read = match content {
            Content::None => read,
            Content::Value => self.moved_on(left, read),
            Content::ValueAndEnd => match (self.moved_on(left, read), self.rest.byte()) {
                (Ok(_), Ok(kind)) if kind != END => Err(left_over(1)),
                (Ok(_), Err(error)) | (Err(error), _) => Err(error),
                (Ok(value), Ok(_)) => Ok(value),
            },
        };
        self.is_broken |= read.is_err();
        read.map_err(|error| error.within(Step::Variant(name, variant.into())))
    }
}

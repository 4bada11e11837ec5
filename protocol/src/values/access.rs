//! Elements, fields and variants, as visitors ask for them.

use serde::de::value::BorrowedStrDeserializer;
use serde::de::{
    Deserialize, DeserializeSeed, EnumAccess, Error as _, MapAccess, SeqAccess, Unexpected, VariantAccess,
    Visitor,
};

use super::decode::{Decoder, left_over};
use super::error::{Step, ValueError};
use super::kind::END;

/// Number of elements that follow.
#[derive(Clone, Copy)]
pub(super) enum Left {
    Exactly(usize),
    /// As many as there are until `END`.
    Open,
}

/// Owner of the elements.
#[derive(Clone, Copy)]
pub(super) enum Owner {
    Struct(&'static str, &'static [&'static str]),
    Variant(&'static str, &'static [&'static str]),
    Map,
}

impl Owner {
    /// Of the type, if it has one.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Struct(name, _) | Self::Variant(name, _) => name,
            Self::Map => "",
        }
    }
}

/// The elements of a list or map, or the fields of a struct by position.
pub(super) struct Items<'d, 'de> {
    pub(super) decoder: &'d mut Decoder<'de>,
    pub(super) left: Left,
    pub(super) read: usize,
    pub(super) owner: Option<Owner>,
}

impl<'de> Items<'_, 'de> {
    /// Whether there is one more.
    #[inline]
    fn advance(&mut self) -> Result<bool, ValueError> {
        match &mut self.left {
            Left::Exactly(0) => return Ok(false),
            Left::Exactly(left) => *left -= 1,
            Left::Open if self.decoder.rest.peek()? == END => {
                self.decoder.rest.byte()?;
                self.left = Left::Exactly(0);
                return Ok(false);
            }
            Left::Open => {}
        }
        self.read += 1;
        Ok(true)
    }

    #[inline]
    fn element<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<T::Value, ValueError> {
        match self.decoder.part(seed) {
            Ok(value) => Ok(value),
            Err(error) => Err(self.broken(error)),
        }
    }

    #[cold]
    fn broken(&mut self, error: ValueError) -> ValueError {
        self.decoder.is_broken = true;
        let place = self.read - 1;
        error.within(match self.owner {
            None => Step::Index(place),
            Some(Owner::Map) => Step::Entry(self.read),
            Some(Owner::Struct(name, fields) | Owner::Variant(name, fields)) => {
                Step::Field(name, fields.get(place).copied().unwrap_or_default().into())
            }
        })
    }

    /// Nothing may be left.
    #[inline]
    pub(super) fn finish(&mut self) -> Result<(), ValueError> {
        match self.left {
            Left::Exactly(0) => Ok(()),
            Left::Exactly(left) => Err(left_over(left)),
            Left::Open => {
                if self.advance()? {
                    return Err(left_over(1));
                }
                Ok(())
            }
        }
    }

    fn hint(&self) -> Option<usize> {
        match self.left {
            Left::Exactly(left) => Some(left),
            Left::Open => None,
        }
    }
}

impl<'de> SeqAccess<'de> for &mut Items<'_, 'de> {
    type Error = ValueError;

    #[inline]
    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, ValueError> {
        if self.advance()? { self.element(seed).map(Some) } else { Ok(None) }
    }

    fn size_hint(&self) -> Option<usize> {
        self.hint()
    }
}

impl<'de> MapAccess<'de> for &mut Items<'_, 'de> {
    type Error = ValueError;

    #[inline]
    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, ValueError> {
        if self.advance()? { self.element(seed).map(Some) } else { Ok(None) }
    }

    #[inline]
    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, ValueError> {
        self.element(seed)
    }

    fn size_hint(&self) -> Option<usize> {
        self.hint()
    }
}

/// The fields of a struct by name.
pub(super) struct Fields<'d, 'de> {
    pub(super) decoder: &'d mut Decoder<'de>,
    pub(super) next: u32,
    pub(super) end: u32,
    pub(super) name: &'static str,
}

impl<'de> Fields<'_, 'de> {
    fn field(&self) -> &'de str {
        self.decoder.names.as_deref().map_or("", |names| names.field(self.next))
    }

    #[cold]
    fn broken(&mut self, error: ValueError) -> ValueError {
        self.decoder.is_broken = true;
        error.within(Step::Field(self.name, self.field().into()))
    }
}

impl<'de> MapAccess<'de> for &mut Fields<'_, 'de> {
    type Error = ValueError;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, ValueError> {
        if self.next == self.end {
            return Ok(None);
        }
        seed.deserialize(BorrowedStrDeserializer::new(self.field())).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, ValueError> {
        match self.decoder.part(seed) {
            Ok(value) => {
                self.next += 1;
                Ok(value)
            }
            Err(error) => Err(self.broken(error)),
        }
    }

    fn size_hint(&self) -> Option<usize> {
        Some((self.end - self.next) as usize)
    }
}

/// A variant with content, as a map of one entry.
pub(super) struct Single<'d, 'de> {
    pub(super) decoder: &'d mut Decoder<'de>,
    pub(super) name: Option<&'de str>,
}

impl<'de> MapAccess<'de> for Single<'_, 'de> {
    type Error = ValueError;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, ValueError> {
        self.name.take().map(|name| seed.deserialize(BorrowedStrDeserializer::new(name))).transpose()
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, ValueError> {
        seed.deserialize(&mut *self.decoder)
    }

    fn size_hint(&self) -> Option<usize> {
        Some(usize::from(self.name.is_some()))
    }
}

/// Content of a variant.
#[derive(Clone, Copy)]
pub(super) enum Content {
    None,
    Value,
    /// The value is that of an open map.
    ValueAndEnd,
}

pub(super) struct Variant<'d, 'de> {
    pub(super) decoder: &'d mut Decoder<'de>,
    pub(super) variant: &'de str,
    pub(super) content: Content,
    pub(super) name: &'static str,
}

impl Variant<'_, '_> {
    /// There has to be content, of which `expected` is told if there is none.
    fn has_content(&self, expected: &'static str) -> Result<(), ValueError> {
        match self.content {
            Content::None => Err(ValueError::invalid_type(Unexpected::UnitVariant, &expected)),
            Content::Value | Content::ValueAndEnd => Ok(()),
        }
    }
}

impl<'de> EnumAccess<'de> for Variant<'_, 'de> {
    type Error = ValueError;
    type Variant = Self;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Self), ValueError> {
        let name = BorrowedStrDeserializer::<ValueError>::new(self.variant);
        Ok((seed.deserialize(name)?, self))
    }
}

impl<'de> VariantAccess<'de> for Variant<'_, 'de> {
    type Error = ValueError;

    fn unit_variant(self) -> Result<(), ValueError> {
        match self.content {
            Content::None => Ok(()),
            Content::Value | Content::ValueAndEnd => Deserialize::deserialize(self.decoder),
        }
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, ValueError> {
        self.has_content("a variant with one field")?;
        self.decoder.nesting.enter()?;
        let value = seed.deserialize(&mut *self.decoder)?;
        self.decoder.nesting.leave();
        Ok(value)
    }

    fn tuple_variant<V: Visitor<'de>>(self, length: usize, visitor: V) -> Result<V::Value, ValueError> {
        self.has_content("a variant with fields")?;
        self.decoder.nameless(length, None, visitor)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ValueError> {
        self.has_content("a variant with named fields")?;
        self.decoder.structure(Owner::Variant(self.name, fields), fields, visitor)
    }
}

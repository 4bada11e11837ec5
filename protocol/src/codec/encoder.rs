//! From a value to bytes, in the form that [`codec`](super) describes, with other texts than the value has: what a peer could
//! say in each of its fields. For tests only; with the value's own texts it is what bincode makes.

use std::io::Write;

use serde::ser::{
    Error, Impossible, Serialize, SerializeSeq, SerializeStruct, SerializeStructVariant, SerializeTuple,
    SerializeTupleStruct, SerializeTupleVariant, Serializer,
};

use super::EncodeError;

/// Writer of a value's bytes.
pub(super) struct Encoder<'a, W> {
    out: &'a mut W,
    /// Puts something else in the place of every text.
    text: &'a dyn Fn(&str) -> String,
}

/// As [`encode`](super::encode), with something else in the place of every text.
pub(crate) fn encode_with_texts(value: &impl Serialize, text: &dyn Fn(&str) -> String) -> Vec<u8> {
    let mut out = Vec::new();
    value.serialize(&mut Encoder { out: &mut out, text }).expect("a message can be encoded");
    out
}

impl<'a, W: Write> Encoder<'a, W> {
    fn put(&mut self, bytes: &[u8]) -> Result<(), EncodeError> {
        self.out.write_all(bytes).map_err(EncodeError::custom)
    }

    fn put_marked(&mut self, mark: u8, bytes: &[u8]) -> Result<(), EncodeError> {
        self.put(&[mark])?;
        self.put(bytes)
    }

    fn put_number(&mut self, number: u64) -> Result<(), EncodeError> {
        if number < 251 {
            self.put(&[number as u8])
        } else if let Ok(number) = u16::try_from(number) {
            self.put_marked(251, &number.to_le_bytes())
        } else if let Ok(number) = u32::try_from(number) {
            self.put_marked(252, &number.to_le_bytes())
        } else {
            self.put_marked(253, &number.to_le_bytes())
        }
    }

    fn put_signed(&mut self, number: i64) -> Result<(), EncodeError> {
        self.put_number((number << 1 ^ number >> 63).cast_unsigned())
    }

    fn put_bytes(&mut self, bytes: &[u8]) -> Result<(), EncodeError> {
        self.put_number(bytes.len() as u64)?;
        self.put(bytes)
    }

    fn unused<T>() -> Result<T, EncodeError> {
        Err(EncodeError::custom("no message has a value of this type"))
    }
}

impl Error for EncodeError {
    fn custom<T: std::fmt::Display>(reason: T) -> Self {
        Self(bincode::error::EncodeError::OtherString(reason.to_string()))
    }
}

/// Whole numbers that are written in as few bytes as they need.
macro_rules! numbers {
    ($($method:ident $put:ident $number:ty),+) => {$(
        fn $method(self, number: $number) -> Result<(), EncodeError> {
            self.$put(number.into())
        }
    )+};
}

impl<W: Write> Serializer for &mut Encoder<'_, W> {
    type Ok = ();
    type Error = EncodeError;
    type SerializeSeq = Self;
    type SerializeTuple = Self;
    type SerializeTupleStruct = Self;
    type SerializeTupleVariant = Self;
    type SerializeMap = Impossible<(), EncodeError>;
    type SerializeStruct = Self;
    type SerializeStructVariant = Self;

    numbers! {
        serialize_u16 put_number u16, serialize_u32 put_number u32, serialize_u64 put_number u64,
        serialize_i16 put_signed i16, serialize_i32 put_signed i32, serialize_i64 put_signed i64
    }

    fn serialize_u8(self, byte: u8) -> Result<(), EncodeError> {
        self.put(&[byte])
    }

    fn serialize_i8(self, byte: i8) -> Result<(), EncodeError> {
        self.put(&byte.to_le_bytes())
    }

    fn serialize_u128(self, number: u128) -> Result<(), EncodeError> {
        match u64::try_from(number) {
            Ok(number) => self.put_number(number),
            Err(_) => self.put_marked(254, &number.to_le_bytes()),
        }
    }

    fn serialize_bool(self, flag: bool) -> Result<(), EncodeError> {
        self.put(&[u8::from(flag)])
    }

    fn serialize_f32(self, number: f32) -> Result<(), EncodeError> {
        self.put(&number.to_le_bytes())
    }

    fn serialize_f64(self, number: f64) -> Result<(), EncodeError> {
        self.put(&number.to_le_bytes())
    }

    fn serialize_char(self, _: char) -> Result<(), EncodeError> {
        Encoder::<W>::unused()
    }

    fn serialize_str(self, text: &str) -> Result<(), EncodeError> {
        self.put_bytes((self.text)(text).as_bytes())
    }

    fn serialize_bytes(self, bytes: &[u8]) -> Result<(), EncodeError> {
        self.put_bytes(bytes)
    }

    fn serialize_none(self) -> Result<(), EncodeError> {
        self.put(&[0])
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), EncodeError> {
        self.put(&[1])?;
        value.serialize(self)
    }

    fn serialize_unit(self) -> Result<(), EncodeError> {
        Ok(())
    }

    fn serialize_unit_struct(self, _: &'static str) -> Result<(), EncodeError> {
        Ok(())
    }

    fn serialize_unit_variant(self, _: &'static str, place: u32, _: &'static str) -> Result<(), EncodeError> {
        self.put_number(place.into())
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        value: &T,
    ) -> Result<(), EncodeError> {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        place: u32,
        _: &'static str,
        value: &T,
    ) -> Result<(), EncodeError> {
        self.put_number(place.into())?;
        value.serialize(self)
    }

    fn serialize_seq(self, items: Option<usize>) -> Result<Self, EncodeError> {
        let items = items.ok_or_else(|| EncodeError::custom("a list whose length is not known"))?;
        self.put_number(items as u64)?;
        Ok(self)
    }

    fn serialize_tuple(self, _: usize) -> Result<Self, EncodeError> {
        Ok(self)
    }

    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Result<Self, EncodeError> {
        Ok(self)
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        place: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Self, EncodeError> {
        self.put_number(place.into())?;
        Ok(self)
    }

    fn serialize_map(self, _: Option<usize>) -> Result<Self::SerializeMap, EncodeError> {
        Encoder::<W>::unused()
    }

    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Self, EncodeError> {
        Ok(self)
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        place: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Self, EncodeError> {
        self.put_number(place.into())?;
        Ok(self)
    }

    fn is_human_readable(&self) -> bool {
        false
    }
}

/// Parts that follow one another: items, fields.
macro_rules! parts {
    ($($kind:ident $method:ident ($($name:ident)?)),+) => {$(
        impl<W: Write> $kind for &mut Encoder<'_, W> {
            type Ok = ();
            type Error = EncodeError;

            fn $method<T: Serialize + ?Sized>(&mut self, $($name: &'static str,)? value: &T) -> Result<(), EncodeError> {
                $(let _ = $name;)?
                value.serialize(&mut **self)
            }

            fn end(self) -> Result<(), EncodeError> {
                Ok(())
            }
        }
    )+};
}

parts! {
    SerializeSeq serialize_element (), SerializeTuple serialize_element (), SerializeTupleStruct serialize_field (),
    SerializeTupleVariant serialize_field (), SerializeStruct serialize_field (name),
    SerializeStructVariant serialize_field (name)
}

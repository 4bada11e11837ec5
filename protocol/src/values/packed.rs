//! Lists of bytes and of floating-point numbers: elements one after the other, without a kind for each.
//!
//! `serde` hands a `Vec<u8>` over element by element. That those are bytes is known by the name of their type, which is
//! only taken as a hint: each element is asked what it is as well.

use std::any::type_name;

use serde::Serialize;
use serde::de::value::{F32Deserializer, F64Deserializer, U8Deserializer};
use serde::de::{DeserializeSeed, IntoDeserializer, SeqAccess};
use serde::ser::{Error as _, Impossible, Serializer};

use super::encode::Output;
use super::error::ValueError;
use super::kind::{PACKED_BYTES, PACKED_REALS_4, PACKED_REALS_8};

/// Bytes that are put together before they are written.
const AT_ONCE: usize = 1_024;

/// Kind of elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Packing {
    Bytes,
    Reals4,
    Reals8,
}

impl Packing {
    /// Packing of elements of that type, or of references to it.
    #[inline]
    pub(super) fn of<T>() -> Option<Self> {
        match type_name::<T>() {
            "&u8" | "u8" => Some(Self::Bytes),
            "&f32" | "f32" => Some(Self::Reals4),
            "&f64" | "f64" => Some(Self::Reals8),
            _ => None,
        }
    }

    #[inline]
    pub(super) fn kind(self) -> u8 {
        match self {
            Self::Bytes => PACKED_BYTES,
            Self::Reals4 => PACKED_REALS_4,
            Self::Reals8 => PACKED_REALS_8,
        }
    }

    #[inline]
    pub(super) fn element_bytes(self) -> usize {
        match self {
            Self::Bytes => 1,
            Self::Reals4 => 4,
            Self::Reals8 => 8,
        }
    }
}

/// Writes `length` elements, which have to be what `packing` says.
pub(super) fn put<I>(
    packing: Packing,
    length: usize,
    elements: I,
    out: &mut impl Output,
) -> Result<(), ValueError>
where
    I: Iterator<Item: Serialize>,
{
    let written = match packing {
        Packing::Bytes => put_all(elements, |scalar| scalar.byte(), out)?,
        Packing::Reals4 => put_all(elements, |scalar| scalar.real_4(), out)?,
        Packing::Reals8 => put_all(elements, |scalar| scalar.real_8(), out)?,
    };
    if written == length { Ok(()) } else { Err(ValueError::custom("a list has another length than it says")) }
}

/// Yields how many there were.
#[inline]
fn put_all<const N: usize>(
    mut elements: impl Iterator<Item: Serialize>,
    bytes_of: impl Fn(Scalar) -> Option<[u8; N]>,
    out: &mut impl Output,
) -> Result<usize, ValueError> {
    let mut written = 0;
    let mut buffer = [0; AT_ONCE];
    loop {
        let mut filled = 0;
        for (place, element) in buffer.as_chunks_mut::<N>().0.iter_mut().zip(elements.by_ref()) {
            let bytes = bytes_of(element.serialize(Ask)?);
            *place = bytes.ok_or_else(|| ValueError::custom("elements of a list are of different types"))?;
            filled += 1;
        }
        out.put(&buffer[..filled * N]);
        written += filled;
        if filled * N < AT_ONCE {
            return Ok(written);
        }
    }
}

enum Scalar {
    Byte(u8),
    Real4(f32),
    Real8(f64),
}

impl Scalar {
    #[inline]
    fn byte(self) -> Option<[u8; 1]> {
        if let Self::Byte(byte) = self { Some([byte]) } else { None }
    }

    #[inline]
    fn real_4(self) -> Option<[u8; 4]> {
        if let Self::Real4(number) = self { Some(number.to_bits().to_le_bytes()) } else { None }
    }

    #[inline]
    fn real_8(self) -> Option<[u8; 8]> {
        if let Self::Real8(number) = self { Some(number.to_bits().to_le_bytes()) } else { None }
    }
}

/// Asks a value which scalar it is.
struct Ask;

#[cold]
fn not_packed<T>() -> Result<T, ValueError> {
    Err(ValueError::custom("elements of a list are not what their type is named"))
}

macro_rules! others {
    ($($method:ident($($argument:ty),*) -> $result:ty;)*) => {
        $(
            #[inline]
            fn $method(self, $(_: $argument),*) -> Result<$result, ValueError> {
                not_packed()
            }
        )*
    };
}

impl Serializer for Ask {
    type Ok = Scalar;
    type Error = ValueError;
    type SerializeSeq = Impossible<Scalar, ValueError>;
    type SerializeTuple = Impossible<Scalar, ValueError>;
    type SerializeTupleStruct = Impossible<Scalar, ValueError>;
    type SerializeTupleVariant = Impossible<Scalar, ValueError>;
    type SerializeMap = Impossible<Scalar, ValueError>;
    type SerializeStruct = Impossible<Scalar, ValueError>;
    type SerializeStructVariant = Impossible<Scalar, ValueError>;

    #[inline]
    fn serialize_u8(self, byte: u8) -> Result<Scalar, ValueError> {
        Ok(Scalar::Byte(byte))
    }

    #[inline]
    fn serialize_f32(self, number: f32) -> Result<Scalar, ValueError> {
        Ok(Scalar::Real4(number))
    }

    #[inline]
    fn serialize_f64(self, number: f64) -> Result<Scalar, ValueError> {
        Ok(Scalar::Real8(number))
    }

    others! {
        serialize_bool(bool) -> Scalar;
        serialize_i8(i8) -> Scalar;
        serialize_i16(i16) -> Scalar;
        serialize_i32(i32) -> Scalar;
        serialize_i64(i64) -> Scalar;
        serialize_u16(u16) -> Scalar;
        serialize_u32(u32) -> Scalar;
        serialize_u64(u64) -> Scalar;
        serialize_char(char) -> Scalar;
        serialize_str(&str) -> Scalar;
        serialize_bytes(&[u8]) -> Scalar;
        serialize_none() -> Scalar;
        serialize_unit() -> Scalar;
        serialize_unit_struct(&'static str) -> Scalar;
        serialize_unit_variant(&'static str, u32, &'static str) -> Scalar;
        serialize_seq(Option<usize>) -> Self::SerializeSeq;
        serialize_tuple(usize) -> Self::SerializeTuple;
        serialize_tuple_struct(&'static str, usize) -> Self::SerializeTupleStruct;
        serialize_tuple_variant(&'static str, u32, &'static str, usize) -> Self::SerializeTupleVariant;
        serialize_map(Option<usize>) -> Self::SerializeMap;
        serialize_struct(&'static str, usize) -> Self::SerializeStruct;
        serialize_struct_variant(&'static str, u32, &'static str, usize) -> Self::SerializeStructVariant;
    }

    fn serialize_some<T: Serialize + ?Sized>(self, _: &T) -> Result<Scalar, ValueError> {
        not_packed()
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: &T,
    ) -> Result<Scalar, ValueError> {
        not_packed()
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: &T,
    ) -> Result<Scalar, ValueError> {
        not_packed()
    }
}

/// The elements of a packed list, as they are read.
pub(super) struct Elements<'de, const N: usize>(std::slice::Iter<'de, [u8; N]>);

impl<'de, const N: usize> Elements<'de, N> {
    #[inline]
    pub(super) fn new(bytes: &'de [u8]) -> Self {
        Self(bytes.as_chunks().0.iter())
    }

    pub(super) fn left(&self) -> usize {
        self.0.len()
    }
}

/// Reads an element.
pub(super) trait Element<'de> {
    type Reader: serde::de::Deserializer<'de, Error = ValueError>;

    fn reader(bytes: Self) -> Self::Reader;
}

impl<'de> Element<'de> for [u8; 1] {
    type Reader = U8Deserializer<ValueError>;

    #[inline]
    fn reader([byte]: Self) -> Self::Reader {
        byte.into_deserializer()
    }
}

impl<'de> Element<'de> for [u8; 4] {
    type Reader = F32Deserializer<ValueError>;

    #[inline]
    fn reader(bytes: Self) -> Self::Reader {
        f32::from_bits(u32::from_le_bytes(bytes)).into_deserializer()
    }
}

impl<'de> Element<'de> for [u8; 8] {
    type Reader = F64Deserializer<ValueError>;

    #[inline]
    fn reader(bytes: Self) -> Self::Reader {
        f64::from_bits(u64::from_le_bytes(bytes)).into_deserializer()
    }
}

impl<'de, const N: usize> SeqAccess<'de> for &mut Elements<'de, N>
where
    [u8; N]: Element<'de>,
{
    type Error = ValueError;

    #[inline]
    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, ValueError> {
        match self.0.next() {
            None => Ok(None),
            Some(bytes) => seed.deserialize(Element::reader(*bytes)).map(Some),
        }
    }

    #[inline]
    fn size_hint(&self) -> Option<usize> {
        Some(self.0.len())
    }
}

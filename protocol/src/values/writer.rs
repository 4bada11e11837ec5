//! Parts of values, and the form of each.

use serde::Serialize;
use serde::ser::Serializer;

use super::encode::{Encoder, Output, put_length, put_signed, put_unsigned, put_wide};
use super::error::{Step, ValueError};
use super::kind::*;
use super::packed::{self, Packing};
use super::parts::{Fields, Items, Of, Owner};

macro_rules! numbers {
    ($($method:ident $type:ty, $put:ident as $wider:ty;)*) => {
        $(
            #[inline]
            fn $method(self, number: $type) -> Result<(), ValueError> {
                $put(<$wider>::from(number), self.out);
                Ok(())
            }
        )*
    };
}

impl<'e, 'o, O: Output> Serializer for &'e mut Encoder<'o, O> {
    type Ok = ();
    type Error = ValueError;
    type SerializeSeq = Items<'e, 'o, O>;
    type SerializeTuple = Items<'e, 'o, O>;
    type SerializeTupleStruct = Items<'e, 'o, O>;
    type SerializeTupleVariant = Items<'e, 'o, O>;
    type SerializeMap = Items<'e, 'o, O>;
    type SerializeStruct = Fields<'e, 'o, O>;
    type SerializeStructVariant = Fields<'e, 'o, O>;

    numbers! {
        serialize_u8 u8, put_unsigned as u64;
        serialize_u16 u16, put_unsigned as u64;
        serialize_u32 u32, put_unsigned as u64;
        serialize_u64 u64, put_unsigned as u64;
        serialize_u128 u128, put_wide as u128;
        serialize_i8 i8, put_signed as i64;
        serialize_i16 i16, put_signed as i64;
        serialize_i32 i32, put_signed as i64;
        serialize_i64 i64, put_signed as i64;
    }

    fn serialize_i128(self, number: i128) -> Result<(), ValueError> {
        match i64::try_from(number) {
            Ok(number) => put_signed(number, self.out),
            Err(_) if number < 0 => {
                self.out.put(&[MINUS]);
                put_wide(!number as u128, self.out);
            }
            Err(_) => put_wide(number as u128, self.out),
        }
        Ok(())
    }

    #[inline]
    fn serialize_bool(self, is_true: bool) -> Result<(), ValueError> {
        self.out.put(&[if is_true { TRUE } else { FALSE }]);
        Ok(())
    }

    #[inline]
    fn serialize_f32(self, number: f32) -> Result<(), ValueError> {
        let mut all = [REAL_4; 5];
        all[1..].copy_from_slice(&number.to_bits().to_le_bytes());
        self.out.put(&all);
        Ok(())
    }

    #[inline]
    fn serialize_f64(self, number: f64) -> Result<(), ValueError> {
        let mut all = [REAL_8; 9];
        all[1..].copy_from_slice(&number.to_bits().to_le_bytes());
        self.out.put(&all);
        Ok(())
    }

    fn serialize_char(self, character: char) -> Result<(), ValueError> {
        self.out.put(&[CHARACTER]);
        put_unsigned(u64::from(u32::from(character)), self.out);
        Ok(())
    }

    #[inline]
    fn serialize_str(self, text: &str) -> Result<(), ValueError> {
        if text.len() < TEXTS {
            self.out.put(&[TEXT + text.len() as u8]);
        } else {
            self.out.put(&[LONG_TEXT]);
            put_length(text.len(), self.out);
        }
        self.put_block(text.as_bytes())
    }

    #[inline]
    fn serialize_bytes(self, bytes: &[u8]) -> Result<(), ValueError> {
        self.out.put(&[BYTES]);
        put_length(bytes.len(), self.out);
        self.put_block(bytes)
    }

    #[inline]
    fn serialize_none(self) -> Result<(), ValueError> {
        self.out.put(&[NONE]);
        Ok(())
    }

    #[inline]
    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), ValueError> {
        self.nesting.enter()?;
        self.out.put(&[SOME]);
        value.serialize(&mut *self)?;
        self.nesting.leave();
        Ok(())
    }

    #[inline]
    fn serialize_unit(self) -> Result<(), ValueError> {
        if !self.is_row {
            self.out.put(&[UNIT]);
        }
        Ok(())
    }

    #[inline]
    fn serialize_unit_struct(self, _name: &'static str) -> Result<(), ValueError> {
        self.serialize_unit()
    }

    #[inline]
    fn serialize_unit_variant(
        self,
        _name: &'static str,
        _index: u32,
        variant: &'static str,
    ) -> Result<(), ValueError> {
        let number = self.names().variant(variant);
        self.put_reference(VARIANT, VARIANTS, FAR_VARIANT, number);
        Ok(())
    }

    #[inline]
    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _name: &'static str,
        value: &T,
    ) -> Result<(), ValueError> {
        self.nesting.enter()?;
        value.serialize(&mut *self)?;
        self.nesting.leave();
        Ok(())
    }

    #[inline]
    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        _index: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<(), ValueError> {
        self.begin_variant(variant)?;
        let written = value.serialize(&mut *self);
        written.map_err(|error| error.within(Step::Variant(name, variant.into())))?;
        self.nesting.leave();
        Ok(())
    }

    #[inline]
    fn serialize_seq(self, length: Option<usize>) -> Result<Items<'e, 'o, O>, ValueError> {
        self.begin_list(length)
    }

    #[inline]
    fn serialize_tuple(self, length: usize) -> Result<Items<'e, 'o, O>, ValueError> {
        if self.is_row {
            self.is_row = false;
            self.nesting.enter()?;
            let place = self.out.length();
            return Ok(Items { encoder: self, place, announced: Some(length), count: 0, of: Of::Call });
        }
        self.begin_list(Some(length))
    }

    #[inline]
    fn serialize_tuple_struct(
        self,
        name: &'static str,
        length: usize,
    ) -> Result<Items<'e, 'o, O>, ValueError> {
        Ok(Items { of: Of::Fields(Owner::Struct(name)), ..self.begin_list(Some(length))? })
    }

    #[inline]
    fn serialize_tuple_variant(
        self,
        name: &'static str,
        _index: u32,
        variant: &'static str,
        length: usize,
    ) -> Result<Items<'e, 'o, O>, ValueError> {
        self.begin_variant(variant)?;
        self.nesting.leave();
        Ok(Items { of: Of::Fields(Owner::Variant(name, variant)), ..self.begin_list(Some(length))? })
    }

    #[inline]
    fn serialize_map(self, length: Option<usize>) -> Result<Items<'e, 'o, O>, ValueError> {
        self.nesting.enter()?;
        self.check_size(length.unwrap_or(0).saturating_mul(2))?;
        let place = self.out.length();
        match length {
            Some(length) => {
                self.out.put(&[MAP]);
                put_length(length, self.out);
            }
            None => self.out.put(&[OPEN_MAP]),
        }
        Ok(Items { encoder: self, place, announced: length, count: 0, of: Of::Map })
    }

    #[inline]
    fn serialize_struct(self, name: &'static str, _length: usize) -> Result<Fields<'e, 'o, O>, ValueError> {
        self.begin_struct(Owner::Struct(name))
    }

    #[inline]
    fn serialize_struct_variant(
        self,
        name: &'static str,
        _index: u32,
        variant: &'static str,
        _length: usize,
    ) -> Result<Fields<'e, 'o, O>, ValueError> {
        self.begin_variant(variant)?;
        self.nesting.leave();
        self.begin_struct(Owner::Variant(name, variant))
    }

    /// Vectors and other lists of bytes and of floating-point numbers are written without a kind for each.
    #[inline]
    fn collect_seq<I>(self, elements: I) -> Result<(), ValueError>
    where
        I: IntoIterator,
        I::Item: Serialize,
    {
        let mut elements = elements.into_iter();
        let (least, most) = elements.size_hint();
        let exactly = most.filter(|most| *most == least);
        if let (Some(length), Some(packing)) = (exactly, Packing::of::<I::Item>()) {
            self.check_size(length.saturating_mul(packing.element_bytes()))?;
            self.out.put(&[packing.kind()]);
            put_length(length, self.out);
            return packed::put(packing, length, elements, self.out);
        }
        let mut list = self.begin_list(exactly)?;
        elements.try_for_each(|element| list.element(&element))?;
        list.finish()
    }
}

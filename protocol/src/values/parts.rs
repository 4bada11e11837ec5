//! Lists, maps and structs, as they are written part by part.

use serde::Serialize;
use serde::ser;

use super::encode::{Encoder, Output};
use super::error::{Step, ValueError};
use super::kind::*;

/// A list or map being written.
pub(super) struct Items<'e, 'o, O> {
    pub(super) encoder: &'e mut Encoder<'o, O>,
    /// Position of its kind.
    pub(super) place: usize,
    pub(super) announced: Option<usize>,
    pub(super) count: usize,
    pub(super) of: Of,
}

#[derive(Clone, Copy)]
pub(super) enum Of {
    /// A list or a tuple.
    List,
    Map,
    Fields(Owner),
    /// All arguments of a call.
    Call,
}

/// Owner of the fields, with or without names.
#[derive(Clone, Copy)]
pub(super) enum Owner {
    Struct(&'static str),
    Variant(&'static str, &'static str),
}

impl Owner {
    fn step(self, field: &str) -> Step {
        match self {
            Self::Struct(name) => Step::Field(name, field.into()),
            Self::Variant(name, variant) => Step::Variant(name, format!("{variant}.{field}")),
        }
    }
}

impl<O: Output> Items<'_, '_, O> {
    #[inline]
    pub(super) fn element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), ValueError> {
        if let Err(error) = value.serialize(&mut *self.encoder) {
            return Err(self.broken(error));
        }
        self.count += 1;
        self.encoder.check_size(0)
    }

    #[inline]
    fn key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), ValueError> {
        if let Err(error) = key.serialize(&mut *self.encoder) {
            return Err(self.broken(error));
        }
        Ok(())
    }

    #[cold]
    fn broken(&mut self, error: ValueError) -> ValueError {
        let step = match self.of {
            Of::List => Step::Index(self.count),
            Of::Map => Step::Entry(self.count + 1),
            Of::Fields(owner) => owner.step(&self.count.to_string()),
            Of::Call => Step::Argument(self.count + 1),
        };
        self.encoder.broken(error, step)
    }

    #[inline]
    pub(super) fn finish(self) -> Result<(), ValueError> {
        self.encoder.nesting.leave();
        if self.announced != Some(self.count) {
            self.finish_open();
        }
        Ok(())
    }

    /// Writes an end, where the length announced was wrong, or none.
    #[cold]
    fn finish_open(self) {
        let kind = &mut self.encoder.out.written()[self.place];
        *kind = match *kind {
            OPEN_LIST | OPEN_MAP => *kind,
            LONG_LIST => MISCOUNTED_LIST,
            MAP => MISCOUNTED_MAP,
            _ => OPEN_LIST,
        };
        self.encoder.out.put(&[END]);
    }
}

macro_rules! items {
    ($($trait:ident $method:ident;)*) => {
        $(
            impl<O: Output> ser::$trait for Items<'_, '_, O> {
                type Ok = ();
                type Error = ValueError;

                #[inline]
                fn $method<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), ValueError> {
                    self.element(value)
                }

                #[inline]
                fn end(self) -> Result<(), ValueError> {
                    self.finish()
                }
            }
        )*
    };
}

items! {
    SerializeSeq serialize_element;
    SerializeTuple serialize_element;
    SerializeTupleStruct serialize_field;
    SerializeTupleVariant serialize_field;
}

impl<O: Output> ser::SerializeMap for Items<'_, '_, O> {
    type Ok = ();
    type Error = ValueError;

    #[inline]
    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), ValueError> {
        self.key(key)
    }

    #[inline]
    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), ValueError> {
        self.element(value)
    }

    #[inline]
    fn end(self) -> Result<(), ValueError> {
        self.finish()
    }
}

/// A struct being written.
pub(super) struct Fields<'e, 'o, O> {
    pub(super) encoder: &'e mut Encoder<'o, O>,
    /// Position of its kind.
    pub(super) place: usize,
    /// Node that its fields so far lead to.
    pub(super) node: u32,
    pub(super) owner: Owner,
}

impl<O: Output> Fields<'_, '_, O> {
    #[inline]
    fn field<T: Serialize + ?Sized>(&mut self, key: &'static str, value: &T) -> Result<(), ValueError> {
        self.node = self.encoder.names().after(self.node, key);
        if let Err(error) = value.serialize(&mut *self.encoder) {
            return Err(self.broken(error, key));
        }
        Ok(())
    }

    #[cold]
    fn broken(&mut self, error: ValueError, key: &'static str) -> ValueError {
        self.encoder.broken(error, self.owner.step(key))
    }

    #[inline]
    pub(super) fn finish(self) -> Result<(), ValueError> {
        let Self { encoder, place, node, .. } = self;
        encoder.nesting.leave();
        match encoder.names().shape(node) {
            shape @ 0..SHAPES => encoder.out.written()[place] = SHAPE + shape as u8,
            shape => put_far_shape(place, shape, encoder.out),
        }
        encoder.check_size(0)
    }
}

/// Makes place for a number of more than a byte. Whatever refers to places in a payload refers to earlier ones.
#[cold]
fn put_far_shape(place: usize, shape: u32, out: &mut impl Output) {
    let end = out.length();
    out.put(&[0; 4]);
    let written = out.written();
    written.copy_within(place + 1..end, place + 5);
    written[place] = FAR_SHAPE;
    written[place + 1..place + 5].copy_from_slice(&shape.to_le_bytes());
}

macro_rules! fields {
    ($($trait:ident)*) => {
        $(
            impl<O: Output> ser::$trait for Fields<'_, '_, O> {
                type Ok = ();
                type Error = ValueError;

                #[inline]
                fn serialize_field<T: Serialize + ?Sized>(
                    &mut self,
                    key: &'static str,
                    value: &T,
                ) -> Result<(), ValueError> {
                    self.field(key, value)
                }

                #[inline]
                fn end(self) -> Result<(), ValueError> {
                    self.finish()
                }
            }
        )*
    };
}

fields!(SerializeStruct SerializeStructVariant);

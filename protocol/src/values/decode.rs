//! From bytes to values.

use serde::de::{DeserializeSeed, Error as _, Visitor};

use super::access::{Content, Fields, Items, Left, Owner, Single};
use super::error::{Step, ValueError};
use super::kind::*;
use super::names::{Read, Shape};
use super::nesting::{self, Nesting};
use super::number::Number;
use super::packed;
use super::rest::{Rest, too_short};

/// Reads one payload.
#[derive(Clone, Debug)]
pub(super) struct Decoder<'de> {
    all: &'de [u8],
    /// End of the values: before the names, once these are known.
    end: usize,
    pub(super) rest: Rest<'de>,
    pub(super) names: Option<Box<Read<'de>>>,
    pub(super) nesting: Nesting,
    /// Structs are read by name.
    pub(super) by_name: bool,
    /// A part could not be read, and what follows is not what comes next.
    pub(super) is_broken: bool,
}

/// Beginning of a value.
pub(super) struct Before<'de> {
    rest: Rest<'de>,
    end: usize,
    level: nesting::Before,
}

impl<'de> Decoder<'de> {
    #[inline]
    pub(super) fn new(bytes: &'de [u8]) -> Self {
        Self {
            all: bytes,
            end: bytes.len(),
            rest: Rest(bytes),
            names: None,
            nesting: Nesting::new(),
            by_name: false,
            is_broken: false,
        }
    }

    #[inline]
    pub(super) fn is_at_end(&self) -> bool {
        self.rest.0.is_empty()
    }

    #[inline]
    pub(super) fn before(&self) -> Before<'de> {
        Before { rest: self.rest, end: self.end, level: self.nesting.before() }
    }

    /// Back to where a value begins, to read it by name.
    pub(super) fn begin_by_name(&mut self, before: &Before<'de>) {
        (self.rest, self.end) = (before.rest, before.end);
        self.nesting.restore(&before.level);
        (self.by_name, self.is_broken) = (true, false);
    }

    pub(super) fn end_by_name(&mut self) {
        self.by_name = false;
    }

    /// The bytes of the next value, if it is nothing but bytes, and what follows them.
    #[inline]
    pub(super) fn peek_block(&self) -> Option<(&'de [u8], Rest<'de>)> {
        let mut rest = self.rest;
        let (BYTES | PACKED_BYTES) = rest.byte().ok()? else { return None };
        let length = rest.length().ok()?;
        let block = rest.block(length).ok()?;
        Some((block, rest))
    }

    #[inline]
    pub(super) fn go_on_at(&mut self, rest: Rest<'de>) {
        self.rest = rest;
    }

    /// The kind of the next value.
    #[inline]
    pub(super) fn kind(&mut self) -> Result<u8, ValueError> {
        match self.rest.byte()? {
            NAMES => {
                self.read_names()?;
                self.rest.byte()
            }
            kind => Ok(kind),
        }
    }

    /// The kind of the next value, which is within as many `Some` as there are.
    #[inline]
    pub(super) fn plain_kind(&mut self) -> Result<u8, ValueError> {
        loop {
            match self.kind()? {
                SOME => {}
                kind => return Ok(kind),
            }
        }
    }

    #[inline]
    pub(super) fn peek(&mut self) -> Result<u8, ValueError> {
        if self.rest.peek()? == NAMES {
            self.rest.byte()?;
            self.read_names()?;
        }
        self.rest.peek()
    }

    fn read_names(&mut self) -> Result<(), ValueError> {
        let place = u32::from_le_bytes(self.rest.array()?) as usize;
        let start = self.end - self.rest.0.len();
        let (Some(values), Some(names)) = (self.all.get(start..place), self.all.get(place..)) else {
            return Err(ValueError::malformed("the names are elsewhere"));
        };
        if self.names.is_none() {
            self.names = Some(Box::new(Read::new(names)?));
        }
        (self.rest, self.end) = (Rest(values), place);
        Ok(())
    }

    #[inline]
    fn names(&mut self) -> Result<&mut Read<'de>, ValueError> {
        self.names.as_deref_mut().ok_or_else(|| ValueError::malformed("there are no names"))
    }

    fn name(&mut self, number: u64) -> Result<&'de str, ValueError> {
        self.names()?.name(number)
    }

    #[inline]
    pub(super) fn number(&mut self, kind: u8) -> Result<Option<Number>, ValueError> {
        Ok(Some(match kind {
            SMALL..=SMALL_END | NUMBER_1..=NUMBER_8 => Number::Unsigned(self.rest.unsigned_of(kind)?),
            NEGATIVE..=NEGATIVES_END => Number::Negative(!i64::from(kind - NEGATIVE)),
            MINUS => self.negative()?,
            NUMBER_16 => Number::Wide(u128::from_le_bytes(self.rest.array()?)),
            _ => return Ok(None),
        }))
    }

    fn negative(&mut self) -> Result<Number, ValueError> {
        let complement = match self.rest.byte()? {
            NUMBER_16 => u128::from_le_bytes(self.rest.array()?),
            kind => u128::from(self.rest.unsigned_of(kind)?),
        };
        match (i64::try_from(complement), i128::try_from(complement)) {
            (Ok(complement), _) => Ok(Number::Negative(!complement)),
            (_, Ok(complement)) => Ok(Number::WideNegative(!complement)),
            _ => Err(ValueError::malformed("a number is out of range")),
        }
    }

    #[inline]
    pub(super) fn text(&mut self, kind: u8) -> Result<Option<&'de str>, ValueError> {
        let length = match kind {
            TEXT..=TEXTS_END => usize::from(kind - TEXT),
            LONG_TEXT => self.rest.length()?,
            _ => return Ok(None),
        };
        self.rest.text(length).map(Some)
    }

    pub(super) fn block(&mut self) -> Result<&'de [u8], ValueError> {
        let length = self.rest.length()?;
        self.rest.block(length)
    }

    #[inline]
    pub(super) fn list_of(&mut self, kind: u8) -> Result<Option<Left>, ValueError> {
        Ok(Some(match kind {
            LIST..=LISTS_END => Left::Exactly(usize::from(kind - LIST)),
            LONG_LIST | MAP => Left::Exactly(self.rest.length()?),
            OPEN_LIST | OPEN_MAP => Left::Open,
            MISCOUNTED_LIST | MISCOUNTED_MAP => {
                self.rest.unsigned()?;
                Left::Open
            }
            _ => return Ok(None),
        }))
    }

    #[inline]
    fn shape_of(&mut self, kind: u8) -> Result<Option<u32>, ValueError> {
        match kind {
            SHAPE..=SHAPES_END => Ok(Some(u32::from(kind - SHAPE))),
            FAR_SHAPE => Ok(Some(u32::from_le_bytes(self.rest.array()?))),
            _ => Ok(None),
        }
    }

    /// Fails for good where a value was not read to its end: that leaves what follows out of step, be the error told or
    /// not.
    #[inline]
    pub(super) fn whole<T>(&mut self, read: Result<T, ValueError>) -> Result<T, ValueError> {
        match read {
            Ok(_) => self.nesting.leave(),
            Err(_) => self.is_broken = true,
        }
        read
    }

    /// Reads what has to be there. A type that leaves it where it is (`serde` lets it) would have what comes next read it.
    #[inline]
    pub(super) fn part<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<T::Value, ValueError> {
        let left = self.rest.0.len();
        let read = seed.deserialize(&mut *self);
        self.moved_on(left, read)
    }

    /// An error if still so much is left.
    #[inline]
    pub(super) fn moved_on<T>(&self, left: usize, read: Result<T, ValueError>) -> Result<T, ValueError> {
        if self.rest.0.len() == left && read.is_ok() { Err(ValueError::unread()) } else { read }
    }

    #[inline]
    pub(super) fn visit_some<V: Visitor<'de>>(&mut self, visitor: V) -> Result<V::Value, ValueError> {
        self.nesting.enter()?;
        let left = self.rest.0.len();
        let read = visitor.visit_some(&mut *self);
        let read = self.moved_on(left, read)?;
        self.nesting.leave();
        Ok(read)
    }

    #[inline]
    pub(super) fn visit_list<V: Visitor<'de>>(
        &mut self,
        left: Left,
        owner: Option<Owner>,
        visitor: V,
    ) -> Result<V::Value, ValueError> {
        self.nesting.enter()?;
        let mut items = Items { decoder: self, left, read: 0, owner };
        let read = visitor.visit_seq(&mut items).and_then(|value| items.finish().map(|()| value));
        self.whole(read)
    }

    #[inline]
    fn visit_map<V: Visitor<'de>>(&mut self, left: Left, visitor: V) -> Result<V::Value, ValueError> {
        self.nesting.enter()?;
        let mut items = Items { decoder: self, left, read: 0, owner: Some(Owner::Map) };
        let read = visitor.visit_map(&mut items).and_then(|value| items.finish().map(|()| value));
        self.whole(read)
    }

    fn visit_fields<V: Visitor<'de>>(
        &mut self,
        shape: Shape,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, ValueError> {
        self.nesting.enter()?;
        let (next, end) = shape.range();
        let mut fields = Fields { decoder: self, next, end, name };
        let read = visitor.visit_map(&mut fields).and_then(|value| match fields.next == fields.end {
            true => Ok(value),
            false => Err(ValueError::custom("not all fields are read")),
        });
        self.whole(read)
    }

    pub(super) fn visit_packed<const N: usize, V>(&mut self, visitor: V) -> Result<V::Value, ValueError>
    where
        V: Visitor<'de>,
        [u8; N]: packed::Element<'de>,
    {
        let length = self.rest.unsigned()?;
        let bytes = usize::try_from(length).ok().and_then(|length| length.checked_mul(N));
        let mut elements = packed::Elements::<N>::new(self.rest.block(bytes.ok_or_else(too_short)?)?);
        let value = visitor.visit_seq(&mut elements)?;
        match elements.left() {
            0 => Ok(value),
            left => Err(left_over(left)),
        }
    }

    /// A value of any kind but those that are asked for by name.
    pub(super) fn any<V: Visitor<'de>>(&mut self, kind: u8, visitor: V) -> Result<V::Value, ValueError> {
        if let Some(number) = self.number(kind)? {
            return number.visit(visitor);
        }
        if let Some(text) = self.text(kind)? {
            return visitor.visit_borrowed_str(text);
        }
        match kind {
            LIST..=LISTS_END | LONG_LIST..=MISCOUNTED_LIST => match self.list_of(kind)? {
                Some(left) => self.visit_list(left, None, visitor),
                None => Err(unknown_kind()),
            },
            MAP..=MISCOUNTED_MAP => match self.list_of(kind)? {
                Some(left) => self.visit_map(left, visitor),
                None => Err(unknown_kind()),
            },
            SHAPE..=SHAPES_END | FAR_SHAPE => {
                let number = self.shape_of(kind)?.ok_or_else(unknown_kind)?;
                let shape = self.names()?.shape(number)?;
                self.visit_fields(shape, "", visitor)
            }
            VARIANT..=VARIANTS_END => visitor.visit_borrowed_str(self.name(u64::from(kind - VARIANT))?),
            FAR_VARIANT => {
                let number = self.rest.unsigned()?;
                visitor.visit_borrowed_str(self.name(number)?)
            }
            FULL_VARIANT => {
                let number = self.rest.unsigned()?;
                let name = Some(self.name(number)?);
                self.nesting.enter()?;
                let left = self.rest.0.len();
                let read = visitor.visit_map(Single { decoder: self, name });
                let read = self.moved_on(left, read);
                self.whole(read)
            }
            UNIT => visitor.visit_unit(),
            NONE => visitor.visit_none(),
            SOME => self.visit_some(visitor),
            FALSE => visitor.visit_bool(false),
            TRUE => visitor.visit_bool(true),
            REAL_4 => visitor.visit_f32(f32::from_bits(u32::from_le_bytes(self.rest.array()?))),
            REAL_8 => visitor.visit_f64(f64::from_bits(u64::from_le_bytes(self.rest.array()?))),
            CHARACTER => {
                let number = u32::try_from(self.rest.unsigned()?).ok().and_then(char::from_u32);
                visitor.visit_char(number.ok_or_else(|| ValueError::malformed("a character is none"))?)
            }
            BYTES => visitor.visit_borrowed_bytes(self.block()?),
            PACKED_BYTES => self.visit_packed::<1, V>(visitor),
            PACKED_REALS_4 => self.visit_packed::<4, V>(visitor),
            PACKED_REALS_8 => self.visit_packed::<8, V>(visitor),
            _ => Err(unknown_kind()),
        }
    }

    #[inline]
    pub(super) fn structure<V: Visitor<'de>>(
        &mut self,
        owner: Owner,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ValueError> {
        let kind = self.plain_kind()?;
        let Some(number) = self.shape_of(kind)? else { return self.any(kind, visitor) };
        let by_name = self.by_name;
        let names = self.names()?;
        let read = if !by_name && names.is_equal(number, fields) {
            self.visit_list(Left::Exactly(fields.len()), Some(owner), visitor)
        } else {
            let shape = names.shape(number)?;
            self.visit_fields(shape, owner.name(), visitor)
        };
        // What is wrong with the struct as a whole, such as a field that is missing, tells its type.
        read.map_err(|error| if error.has_place() { error } else { error.within(Step::Type(owner.name())) })
    }

    /// A list, or what is read like one.
    #[inline]
    pub(super) fn sequence<V: Visitor<'de>>(&mut self, kind: u8, visitor: V) -> Result<V::Value, ValueError> {
        match kind {
            LIST..=LISTS_END | LONG_LIST..=MISCOUNTED_LIST => match self.list_of(kind)? {
                Some(left) => self.visit_list(left, None, visitor),
                None => Err(unknown_kind()),
            },
            PACKED_BYTES | BYTES => self.visit_packed::<1, V>(visitor),
            kind => self.any(kind, visitor),
        }
    }

    /// The fields of a tuple struct, whose `name` is told, or of a tuple variant. They are known by their places alone:
    /// where one is left out, another would be taken for it.
    #[inline]
    pub(super) fn nameless<V: Visitor<'de>>(
        &mut self,
        length: usize,
        name: Option<&'static str>,
        visitor: V,
    ) -> Result<V::Value, ValueError> {
        let kind = self.plain_kind()?;
        let (LIST..=LISTS_END | LONG_LIST..=MISCOUNTED_LIST) = kind else {
            return self.sequence(kind, visitor);
        };
        let left = self.list_of(kind)?.ok_or_else(unknown_kind)?;
        let wrong_count = |count| {
            let error = other_count(count, length);
            Err(match name {
                Some(name) => error.within(Step::Type(name)),
                None => error,
            })
        };
        self.nesting.enter()?;
        let read = match left {
            Left::Exactly(count) if count != length => wrong_count(count),
            _ => {
                let mut items = Items { decoder: self, left, read: 0, owner: None };
                let read = visitor.visit_seq(&mut items).and_then(|value| items.finish().map(|()| value));
                read.and_then(|value| if items.read == length { Ok(value) } else { wrong_count(items.read) })
            }
        };
        self.whole(read)
    }

    /// The variant that a value of this kind is: its name, and what follows.
    pub(super) fn variant_of(&mut self, kind: u8) -> Result<Option<(&'de str, Content)>, ValueError> {
        if let Some(text) = self.text(kind)? {
            return Ok(Some((text, Content::None)));
        }
        Ok(Some(match kind {
            VARIANT..=VARIANTS_END => (self.name(u64::from(kind - VARIANT))?, Content::None),
            FAR_VARIANT => {
                let number = self.rest.unsigned()?;
                (self.name(number)?, Content::None)
            }
            FULL_VARIANT => {
                let number = self.rest.unsigned()?;
                (self.name(number)?, Content::Value)
            }
            // As JSON has it, for types that are written by hand.
            MAP..=MISCOUNTED_MAP => {
                let left = self.list_of(kind)?;
                let kind = self.kind()?;
                match (left, self.text(kind)?) {
                    (Some(Left::Exactly(1)), Some(name)) => (name, Content::Value),
                    (Some(Left::Open), Some(name)) => (name, Content::ValueAndEnd),
                    _ => {
                        return Err(ValueError::custom(
                            "a map of one entry that names the variant is expected",
                        ));
                    }
                }
            }
            _ => return Ok(None),
        }))
    }
}

#[cold]
pub(super) fn unknown_kind() -> ValueError {
    ValueError::malformed("there is no such kind of value")
}

#[cold]
fn other_count(written: usize, read: usize) -> ValueError {
    ValueError::custom(format_args!(
        "{written} of its fields are written and {read} are read; serialise all of them, without \
         #[serde(skip_serializing_if)]: fields without names are known by their places"
    ))
}

#[cold]
pub(super) fn left_over(count: usize) -> ValueError {
    ValueError::custom(format_args!("there are {count} elements more than are read"))
}

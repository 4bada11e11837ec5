//! The byte that each value begins with.
//!
//! Below `0xe0` it holds a small number itself. Numbers and lengths that follow are unsigned numbers of the same form.

/// From here on to 127: that number.
pub(super) const SMALL: u8 = 0x00;
pub(super) const SMALL_END: u8 = SHAPE - 1;
/// A struct of the shape of that number.
pub(super) const SHAPE: u8 = 0x80;
pub(super) const SHAPES: u32 = 32;
pub(super) const SHAPES_END: u8 = SHAPE + SHAPES as u8 - 1;
/// A variant without content, with the name of that number.
pub(super) const VARIANT: u8 = 0xa0;
pub(super) const VARIANTS: u32 = 16;
pub(super) const VARIANTS_END: u8 = VARIANT + VARIANTS as u8 - 1;
/// Minus one, and so on.
pub(super) const NEGATIVE: u8 = 0xb0;
pub(super) const NEGATIVES: u8 = 16;
pub(super) const NEGATIVES_END: u8 = NEGATIVE + NEGATIVES - 1;
/// A list of so many elements.
pub(super) const LIST: u8 = 0xc0;
pub(super) const LISTS: usize = 16;
pub(super) const LISTS_END: u8 = LIST + LISTS as u8 - 1;
/// A text of so many bytes.
pub(super) const TEXT: u8 = 0xd0;
pub(super) const TEXTS: usize = 16;
pub(super) const TEXTS_END: u8 = TEXT + TEXTS as u8 - 1;

pub(super) const UNIT: u8 = 0xe0;
pub(super) const NONE: u8 = 0xe1;
/// A value follows.
pub(super) const SOME: u8 = 0xe2;
pub(super) const FALSE: u8 = 0xe3;
pub(super) const TRUE: u8 = 0xe4;
/// Unsigned numbers of so many bytes, little endian.
pub(super) const NUMBER_1: u8 = 0xe5;
pub(super) const NUMBER_2: u8 = 0xe6;
pub(super) const NUMBER_4: u8 = 0xe7;
pub(super) const NUMBER_8: u8 = 0xe8;
pub(super) const NUMBER_16: u8 = 0xe9;
/// An unsigned number follows; this is one less than minus that.
pub(super) const MINUS: u8 = 0xea;
pub(super) const REAL_4: u8 = 0xeb;
pub(super) const REAL_8: u8 = 0xec;
/// A number follows, which is that of the character.
pub(super) const CHARACTER: u8 = 0xed;
/// Length and content follow.
pub(super) const LONG_TEXT: u8 = 0xee;
pub(super) const BYTES: u8 = 0xef;
pub(super) const LONG_LIST: u8 = 0xf0;
/// Elements follow until `END`.
pub(super) const OPEN_LIST: u8 = 0xf1;
/// A length that means nothing follows, then elements until `END`.
pub(super) const MISCOUNTED_LIST: u8 = 0xf2;
/// As lists, of keys each with its value.
pub(super) const MAP: u8 = 0xf3;
pub(super) const OPEN_MAP: u8 = 0xf4;
pub(super) const MISCOUNTED_MAP: u8 = 0xf5;
/// The number of the shape follows, in four bytes.
pub(super) const FAR_SHAPE: u8 = 0xf6;
/// The number of the name follows.
pub(super) const FAR_VARIANT: u8 = 0xf7;
/// The number of the name and a value follow.
pub(super) const FULL_VARIANT: u8 = 0xf8;
/// Lists of elements of one kind: length, and elements without their kinds.
pub(super) const PACKED_BYTES: u8 = 0xf9;
pub(super) const PACKED_REALS_4: u8 = 0xfa;
pub(super) const PACKED_REALS_8: u8 = 0xfb;
/// The place of the names in the payload, in four bytes; the value follows. Before the first value that needs them.
pub(super) const NAMES: u8 = 0xfc;
pub(super) const END: u8 = 0xfd;

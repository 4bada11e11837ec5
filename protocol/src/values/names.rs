//! Names of fields and variants, each written once for all values of a payload.

use std::cell::Cell;

use super::encode::{Output, put_length};
use super::error::ValueError;
use super::rest::Rest;

/// No node, or no number yet.
const NOTHING: u32 = u32::MAX;

/// The names and shapes that values were written with.
///
/// Shapes are found field by field, in a tree: a struct's fields lead from node to node, and each node at which a struct
/// ended is a shape.
#[derive(Debug, Default)]
pub(super) struct Written {
    nodes: Vec<Node>,
    names: Vec<&'static str>,
    /// The nodes at which structs ended, by the number of the shape.
    shapes: Vec<u32>,
    /// The names of the fields of a shape, as they are put together.
    fields: Vec<u32>,
}

/// Memory for so many nodes is kept.
const SPARE_NODES: usize = 1_024;

thread_local! {
    /// Tables of this thread's last payload, for the next one.
    static SPARE: Cell<Option<Box<Written>>> = const { Cell::new(None) };
}

#[derive(Debug)]
struct Node {
    key: &'static str,
    /// The number of that name.
    name: u32,
    parent: u32,
    first_child: u32,
    next_sibling: u32,
    shape: u32,
}

impl Written {
    /// Node at which all shapes begin.
    pub(super) const SHAPES: u32 = 0;
    /// Node below which variants are.
    const VARIANTS: u32 = 1;

    /// Without any names, in memory that was used for others.
    pub(super) fn take() -> Box<Self> {
        let mut written = SPARE.take().unwrap_or_default();
        written.clear();
        written
    }

    /// Keeps the memory for others, unless it is much.
    pub(super) fn give_back(written: Box<Self>) {
        if written.nodes.len() <= SPARE_NODES {
            SPARE.set(Some(written));
        }
    }

    fn clear(&mut self) {
        self.nodes.clear();
        self.names.clear();
        self.shapes.clear();
        for _ in [Self::SHAPES, Self::VARIANTS] {
            self.add(Node {
                key: "",
                name: NOTHING,
                parent: NOTHING,
                first_child: NOTHING,
                next_sibling: NOTHING,
                shape: NOTHING,
            });
        }
    }

    fn add(&mut self, node: Node) -> u32 {
        self.nodes.push(node);
        self.nodes.len() as u32 - 1
    }

    /// The node that `key` leads to.
    #[inline]
    pub(super) fn after(&mut self, node: u32, key: &'static str) -> u32 {
        let first = self.nodes[node as usize].first_child;
        if let Some(child) = self.nodes.get(first as usize)
            && is_same(child.key, key)
        {
            return first;
        }
        self.find_or_add(node, key)
    }

    /// Finds a key, or adds it. The one found last stands first, as it is often the next.
    fn find_or_add(&mut self, parent: u32, key: &'static str) -> u32 {
        let first = self.nodes[parent as usize].first_child;
        let mut before = first;
        while let Some(node) = self.nodes.get(before as usize) {
            let found = node.next_sibling;
            let Some(candidate) = self.nodes.get(found as usize) else { break };
            if is_same(candidate.key, key) {
                self.nodes[before as usize].next_sibling = candidate.next_sibling;
                self.nodes[found as usize].next_sibling = first;
                self.nodes[parent as usize].first_child = found;
                return found;
            }
            before = found;
        }
        let name = self.name(key);
        let node = Node { key, name, parent, first_child: NOTHING, next_sibling: first, shape: NOTHING };
        let added = self.add(node);
        self.nodes[parent as usize].first_child = added;
        added
    }

    fn name(&mut self, key: &'static str) -> u32 {
        let known = self.names.iter().position(|name| is_same(name, key));
        let number = known.unwrap_or_else(|| {
            self.names.push(key);
            self.names.len() - 1
        });
        number as u32
    }

    /// The number of the name of a variant.
    #[inline]
    pub(super) fn variant(&mut self, name: &'static str) -> u32 {
        let node = self.after(Self::VARIANTS, name);
        self.nodes[node as usize].name
    }

    /// The number of the shape of the fields that led to `node`.
    #[inline]
    pub(super) fn shape(&mut self, node: u32) -> u32 {
        let shape = &mut self.nodes[node as usize].shape;
        if *shape == NOTHING {
            *shape = self.shapes.len() as u32;
            self.shapes.push(node);
        }
        *shape
    }

    pub(super) fn put(&mut self, out: &mut impl Output) {
        put_length(self.names.len(), out);
        for name in &self.names {
            put_length(name.len(), out);
            out.put(name.as_bytes());
        }
        put_length(self.shapes.len(), out);
        let mut fields = std::mem::take(&mut self.fields);
        for shape in &self.shapes {
            fields.clear();
            let mut node = &self.nodes[*shape as usize];
            while node.parent != NOTHING {
                fields.push(node.name);
                node = &self.nodes[node.parent as usize];
            }
            put_length(fields.len(), out);
            fields.iter().rev().for_each(|name| put_length(*name as usize, out));
        }
        self.fields = fields;
    }
}

/// Mostly the very same text.
#[inline]
fn is_same(a: &'static str, b: &'static str) -> bool {
    std::ptr::eq(a, b) || a == b
}

/// The names and shapes of a payload that is read.
#[derive(Clone, Debug, Default)]
pub(super) struct Read<'de> {
    names: Few<&'de str, 8>,
    shapes: Few<Shape, 4>,
    /// The fields of all shapes.
    fields: Few<&'de str, 8>,
}

/// A list whose first elements need no memory elsewhere: most payloads have few names.
#[derive(Clone, Debug)]
struct Few<T, const N: usize> {
    first: [T; N],
    length: usize,
    rest: Vec<T>,
}

impl<T: Copy + Default, const N: usize> Default for Few<T, N> {
    fn default() -> Self {
        Self { first: [T::default(); N], length: 0, rest: Vec::new() }
    }
}

impl<T, const N: usize> Few<T, N> {
    #[inline]
    fn push(&mut self, element: T) {
        match self.first.get_mut(self.length) {
            Some(place) => *place = element,
            None => self.rest.push(element),
        }
        self.length += 1;
    }

    #[inline]
    fn get(&self, number: usize) -> Option<&T> {
        if number >= self.length {
            return None;
        }
        self.first.get(number).or_else(|| self.rest.get(number - N))
    }

    #[inline]
    fn get_mut(&mut self, number: usize) -> Option<&mut T> {
        if number >= self.length {
            return None;
        }
        self.first.get_mut(number).or_else(|| self.rest.get_mut(number - N))
    }
}

/// Fields of a struct.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Shape {
    first: u32,
    end: u32,
    /// The list of fields that it was found to be equal to.
    equal_to: Option<&'static [&'static str]>,
}

impl<'de> Read<'de> {
    /// Reads all of `bytes`.
    pub(super) fn new(bytes: &'de [u8]) -> Result<Self, ValueError> {
        let mut rest = Rest(bytes);
        let mut read = Self::default();
        for _ in 0..rest.length()? {
            let length = rest.length()?;
            read.names.push(rest.text(length)?);
        }
        for _ in 0..rest.length()? {
            let first = read.fields.length as u32;
            for _ in 0..rest.length()? {
                let name = rest.unsigned()?;
                read.fields.push(read.name(name)?);
            }
            read.shapes.push(Shape { first, end: read.fields.length as u32, equal_to: None });
        }
        if rest.0.is_empty() { Ok(read) } else { Err(ValueError::malformed("something follows the names")) }
    }

    pub(super) fn name(&self, number: u64) -> Result<&'de str, ValueError> {
        let name = usize::try_from(number).ok().and_then(|number| self.names.get(number));
        name.copied().ok_or_else(|| ValueError::malformed("there is no such name"))
    }

    #[inline]
    pub(super) fn shape(&self, number: u32) -> Result<Shape, ValueError> {
        let shape = self.shapes.get(number as usize);
        shape.copied().ok_or_else(|| ValueError::malformed("there is no such shape"))
    }

    /// Whether the fields of that shape are these.
    #[inline]
    pub(super) fn is_equal(&mut self, number: u32, fields: &'static [&'static str]) -> bool {
        let Some(shape) = self.shapes.get_mut(number as usize) else { return false };
        if shape.equal_to.is_some_and(|equal| std::ptr::eq(equal, fields)) {
            return true;
        }
        let is_equal = (shape.end - shape.first) as usize == fields.len()
            && (shape.first as usize..)
                .zip(fields)
                .all(|(place, field)| self.fields.get(place) == Some(field));
        if is_equal {
            shape.equal_to = Some(fields);
        }
        is_equal
    }

    #[inline]
    pub(super) fn field(&self, place: u32) -> &'de str {
        self.fields.get(place as usize).copied().unwrap_or_default()
    }
}

impl Shape {
    #[inline]
    pub(super) fn range(self) -> (u32, u32) {
        (self.first, self.end)
    }
}

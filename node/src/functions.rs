//! The functions of this program that jobs can name.
//!
//! `#[job]` registers each at link time through [`inventory`]; [`Registry`] is built from that once per process. Two
//! functions that would answer to one name are an error at start, so that a job never runs the wrong one.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::OnceLock;

use pp_protocol::values::{self, Source, ValueError};
use pp_protocol::{FunctionId, room};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// A function that jobs can name. Registered with `inventory::submit!`.
#[derive(Clone, Copy, Debug)]
pub struct Function {
    /// Yields its full path. A function, because `std::any::type_name` is not a constant.
    pub name: fn() -> &'static str,
    /// Calls it.
    pub call: Call,
}

/// Decodes arguments, calls a function and appends its serialised result to the second parameter.
pub type Call = fn(Source<'_>, &mut room::Writer) -> Result<(), CallError>;

/// The arguments of a function: a tuple of values.
pub trait Arguments: Sized {
    /// Takes them from where they are, one by one.
    ///
    /// # Errors
    /// When they are not there.
    fn take(source: &mut Source<'_>) -> Result<Self, ValueError>;
}

macro_rules! arguments {
    ($($name:ident)*) => {
        impl<$($name: DeserializeOwned + 'static),*> Arguments for ($($name,)*) {
            #[inline]
            fn take(_source: &mut Source<'_>) -> Result<Self, ValueError> {
                Ok(($(_source.take_argument::<$name>()?,)*))
            }
        }
    };
}

arguments!();
arguments!(A);
arguments!(A B);
arguments!(A B C);
arguments!(A B C D);
arguments!(A B C D E);
arguments!(A B C D E F);
arguments!(A B C D E F G);
arguments!(A B C D E F G H);
arguments!(A B C D E F G H I);
arguments!(A B C D E F G H I J);
arguments!(A B C D E F G H I J K);
arguments!(A B C D E F G H I J K L);
arguments!(A B C D E F G H I J K L M);
arguments!(A B C D E F G H I J K L M N);
arguments!(A B C D E F G H I J K L M N O);
arguments!(A B C D E F G H I J K L M N O P);

inventory::collect!(Function);

/// A function could not be called, or its result not be sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// The arguments are not what the function takes.
    #[error("the arguments are not what the function takes: {0}")]
    BadArguments(String),
    /// The result's own `Serialize` failed.
    #[error("the result cannot be sent: {0}")]
    BadResult(String),
    /// The result has so many bytes, or more.
    #[error("the result has {0} bytes or more, which is too much")]
    TooLarge(u64),
}

/// The functions of this program cannot be told apart.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RegistryError {
    /// Two functions have the same full path.
    #[error("two #[job] functions are both named {name}; rename one, or move it to a module of its own")]
    NameTwice {
        /// The path.
        name: &'static str,
    },
    /// Two names have the same identifier.
    #[error("the #[job] functions {first} and {second} get the same identifier; rename one of them")]
    SameId {
        /// A path.
        first: &'static str,
        /// The other path.
        second: &'static str,
    },
}

/// The identifier of the function with this full path: the first eight bytes of the path's BLAKE3 hash, read as a
/// little-endian integer.
pub fn function_id(name: &str) -> FunctionId {
    let hash = blake3::hash(name.as_bytes());
    let bytes = hash.as_bytes();
    FunctionId(u64::from_le_bytes(std::array::from_fn(|place| bytes[place])))
}

/// All functions of this program, by identifier.
#[derive(Debug)]
pub struct Registry {
    functions: FunctionMap<Registered>,
}

#[derive(Clone, Copy, Debug)]
struct Registered {
    name: &'static str,
    call: Call,
}

impl Registry {
    /// The registry of this program, built at the first call.
    ///
    /// # Errors
    /// When two functions cannot be told apart.
    pub fn of_this_program() -> Result<&'static Self, RegistryError> {
        static REGISTRY: OnceLock<Result<Registry, RegistryError>> = OnceLock::new();
        let built = REGISTRY.get_or_init(|| Self::new(inventory::iter::<Function>.into_iter().copied()));
        built.as_ref().map_err(Clone::clone)
    }

    fn new(functions: impl Iterator<Item = Function>) -> Result<Self, RegistryError> {
        let mut registered = FunctionMap::<Registered>::default();
        for function in functions {
            let name = (function.name)();
            match registered.entry(function_id(name)) {
                Entry::Vacant(place) => {
                    place.insert(Registered { name, call: function.call });
                }
                Entry::Occupied(other) if other.get().name == name => {
                    return Err(RegistryError::NameTwice { name });
                }
                Entry::Occupied(other) => {
                    return Err(RegistryError::SameId { first: other.get().name, second: name });
                }
            }
        }
        Ok(Self { functions: registered })
    }

    /// How to call the function of this identifier.
    pub fn call(&self, id: FunctionId) -> Option<Call> {
        self.functions.get(&id).map(|function| function.call)
    }

    /// The full path of the function of this identifier.
    pub fn name(&self, id: FunctionId) -> Option<&'static str> {
        self.functions.get(&id).map(|function| function.name)
    }

    /// How many functions there are.
    pub fn len(&self) -> usize {
        self.functions.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.functions.is_empty()
    }

    /// Each function, in no particular order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (FunctionId, Call)> {
        self.functions.iter().map(|(id, function)| (*id, function.call))
    }
}

/// What the code made by `#[job]` does: decodes `args` as the tuple `A`, calls `function`, appends its result to
/// `result`.
///
/// # Errors
/// When the arguments do not decode or the result does not encode.
pub fn invoke<A: Arguments, R: Serialize>(
    mut args: Source<'_>,
    result: &mut room::Writer,
    function: impl FnOnce(A) -> R,
) -> Result<(), CallError> {
    let taken = A::take(&mut args).and_then(|taken| args.end().map(|()| taken));
    let args = taken.map_err(|error| CallError::BadArguments(error.to_string()))?;
    values::encode(&function(args), result).map_err(|error| match error.too_large() {
        Some(size) => CallError::TooLarge(size),
        None => CallError::BadResult(error.to_string()),
    })
}

/// A map by function. Identifiers are cut from a cryptographic hash, so they need no further hashing.
pub(crate) type FunctionMap<V> = HashMap<FunctionId, V, BuildHasherDefault<IdentityHasher>>;

/// Uses a 64-bit key as its own hash.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct IdentityHasher(u64);

impl Hasher for IdentityHasher {
    fn write_u64(&mut self, key: u64) {
        self.0 = key;
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn add(args: Source<'_>, result: &mut room::Writer) -> Result<(), CallError> {
        invoke(args, result, |(a, b): (u32, u32)| a + b)
    }

    const ADD: Function = Function { name: || "tests::add", call: add };
    const ALSO_ADD: Function = Function { name: || "tests::also_add", call: add };

    #[test]
    fn a_function_is_found_by_its_identifier_and_called() {
        let registry = Registry::new([ADD, ALSO_ADD].into_iter()).unwrap();
        let id = function_id("tests::add");
        assert_eq!((registry.len(), registry.name(id)), (2, Some("tests::add")));
        let (mut args, mut result) = (Vec::new(), room::Writer::default());
        result.write_all(&[0xee]).unwrap();
        values::encode_arguments(&(40_u32, 2_u32), &mut args).unwrap();
        registry.call(id).unwrap()(Source::new(&args), &mut result).unwrap();
        let result = result.few().unwrap();
        assert_eq!(result[0], 0xee, "the result is appended");
        assert_eq!(values::decode::<u32>(&result[1..]).unwrap(), 42);
    }

    #[test]
    fn an_identifier_nobody_has_is_not_found() {
        let registry = Registry::new([ADD].into_iter()).unwrap();
        assert!(registry.call(function_id("tests::gone")).is_none());
    }

    #[test]
    fn two_functions_of_one_name_are_an_error_that_names_them() {
        let error = Registry::new([ADD, ALSO_ADD, ADD].into_iter()).unwrap_err();
        assert_eq!(error, RegistryError::NameTwice { name: "tests::add" });
        assert!(error.to_string().contains("rename"), "{error}");
    }

    #[test]
    fn arguments_of_another_shape_are_an_error() {
        let error = add(Source::new(&[1]), &mut room::Writer::default()).unwrap_err();
        assert!(matches!(error, CallError::BadArguments(_)), "{error}");
    }
}

//! The functions of this program that jobs can name.
//!
//! `#[job]` registers each at link time through [`inventory`]; [`Registry`] is built from that once per process. Two
//! functions that would answer to one name are an error at start, so that a job never runs the wrong one.

use std::any::TypeId;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::OnceLock;

use pp_protocol::limits::{FUNCTION_NAME_BYTES, FUNCTIONS_NAMED};
use pp_protocol::values::{self, Source, ValueError};
use pp_protocol::worker::FunctionName;
use pp_protocol::{FunctionId, ProgramId, room};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// A function that jobs can name. Registered with `inventory::submit!`.
#[derive(Clone, Copy, Debug)]
pub struct Function {
    /// Yields its full path. A function, because `std::any::type_name` is not a constant.
    pub name: fn() -> &'static str,
    /// The version of the library or program that it is part of: two versions of one may be linked together. Empty if it
    /// has none.
    pub version: &'static str,
    /// Identity in this process.
    pub identity: fn() -> Identity,
    /// Calls it.
    pub call: Call,
}

/// Identity of a function in this process, which its name is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Its own type: each function has one.
    item: TypeId,
    pointer: Pointer,
}

impl Identity {
    /// Of `function`, which `pointer` leads to, at this address.
    pub fn of<F: 'static, P: 'static>(_function: &F, _pointer: &P, address: usize) -> Self {
        Self { item: TypeId::of::<F>(), pointer: Pointer::new::<P>(address) }
    }
}

/// A pointer to a function: where it leads, and what is to be called there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Pointer {
    kind: TypeId,
    address: usize,
}

impl Pointer {
    /// One of type `P` that leads there.
    pub fn new<P: 'static>(address: usize) -> Self {
        Self { kind: TypeId::of::<P>(), address }
    }
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

/// A function that is part of every node.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BuiltIn(pub(crate) Function);

inventory::collect!(BuiltIn);

/// A function could not be called, or its result not be sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
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
#[non_exhaustive]
pub enum RegistryError {
    /// Two functions have the same full path, in libraries of the same version.
    #[error(
        "two #[job] functions are both named {name}; rename one, or move it to a module of its own, or use one of the two \
         libraries of that name and version {version:?}"
    )]
    NameTwice {
        /// The path.
        name: &'static str,
        /// The version.
        version: &'static str,
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

/// The identifier of a function with this full path, in a library or program of this version: the same wherever that was
/// compiled.
fn versioned_id(name: &str, version: &str) -> FunctionId {
    if version.is_empty() { function_id(name) } else { function_id(&format!("{name} {version}")) }
}

/// All functions of this program, by identifier.
#[derive(Debug)]
pub struct Registry {
    functions: FunctionMap<Registered>,
    /// Each by its own type.
    items: HashMap<TypeId, FunctionId>,
    /// Functions that a pointer leads to: several where the compiler has merged functions that do the same.
    pointers: HashMap<Pointer, Vec<FunctionId>>,
}

#[derive(Clone, Copy, Debug)]
struct Registered {
    name: &'static str,
    call: Call,
    program: ProgramId,
}

impl Registry {
    /// The registry of this program, built at the first call.
    ///
    /// # Errors
    /// When two functions cannot be told apart.
    pub fn of_this_program() -> Result<&'static Self, RegistryError> {
        static REGISTRY: OnceLock<Result<Registry, RegistryError>> = OnceLock::new();
        let built = REGISTRY.get_or_init(|| {
            let own = inventory::iter::<Function>.into_iter().map(|own| (*own, ProgramId::FIRST));
            let built_in = inventory::iter::<BuiltIn>.into_iter().map(|it| (it.0, ProgramId::BUILT_IN));
            Self::new(own.chain(built_in))
        });
        built.as_ref().map_err(Clone::clone)
    }

    fn new(functions: impl Iterator<Item = (Function, ProgramId)>) -> Result<Self, RegistryError> {
        let mut registry =
            Self { functions: FunctionMap::default(), items: HashMap::new(), pointers: HashMap::new() };
        for (function, program) in functions {
            let (name, version) = ((function.name)(), function.version);
            let id = versioned_id(name, version);
            match registry.functions.entry(id) {
                Entry::Vacant(place) => {
                    place.insert(Registered { name, call: function.call, program });
                }
                Entry::Occupied(other) if other.get().name == name => {
                    return Err(RegistryError::NameTwice { name, version });
                }
                Entry::Occupied(other) => {
                    return Err(RegistryError::SameId { first: other.get().name, second: name });
                }
            }
            let Identity { item, pointer } = (function.identity)();
            registry.items.insert(item, id);
            registry.pointers.entry(pointer).or_default().push(id);
        }
        Ok(registry)
    }

    /// The identifier of the function of this type.
    pub fn item(&self, item: TypeId) -> Option<FunctionId> {
        self.items.get(&item).copied()
    }

    /// The identifiers of the functions that this pointer leads to: several if the compiler has merged functions that do
    /// the same, and none if it keeps a copy of the function where the pointer comes from.
    pub fn pointer(&self, pointer: Pointer) -> &[FunctionId] {
        self.pointers.get(&pointer).map_or(&[], Vec::as_slice)
    }

    /// Call of the function of this identifier.
    pub fn call(&self, id: FunctionId) -> Option<Call> {
        self.functions.get(&id).map(|function| function.call)
    }

    /// The full path of the function of this identifier.
    pub fn name(&self, id: FunctionId) -> Option<&'static str> {
        self.functions.get(&id).map(|function| function.name)
    }

    /// The program, in a session of this program, that has the function of this identifier.
    pub fn program(&self, id: FunctionId) -> Option<ProgramId> {
        self.functions.get(&id).map(|function| function.program)
    }

    /// Number of functions.
    pub fn len(&self) -> usize {
        self.functions.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.functions.is_empty()
    }

    /// Names of functions, for people, of those there are first in order of their names: the end of each path, up to a limit.
    pub(crate) fn names(&self) -> Vec<FunctionName> {
        let mut names: Vec<_> = self.functions.iter().map(|(id, function)| (function.name, *id)).collect();
        names.sort_unstable();
        let short = |path: &str| {
            let surplus = path.len().saturating_sub(FUNCTION_NAME_BYTES);
            path[path.ceil_char_boundary(surplus)..].to_owned()
        };
        let names = names.into_iter().take(FUNCTIONS_NAMED);
        names.map(|(name, function)| FunctionName { function, name: short(name) }).collect()
    }

    /// Each function, in no particular order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (FunctionId, Call)> {
        self.functions.iter().map(|(id, function)| (*id, function.call))
    }
}

/// Body of the code made by `#[job]`: decodes `args` as the tuple `A`, calls `function`, appends its result to
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

    const ADD: Function =
        Function { name: || "tests::add", version: "", identity: || identity::<u8>(1), call: add };
    const ALSO_ADD: Function =
        Function { name: || "tests::also_add", version: "", identity: || identity::<u16>(1), call: add };

    fn registry<const N: usize>(functions: [Function; N]) -> Result<Registry, RegistryError> {
        Registry::new(functions.into_iter().map(|function| (function, ProgramId::FIRST)))
    }

    /// Of a function whose own type is that of a number.
    fn identity<F: Default + 'static>(address: usize) -> Identity {
        Identity::of(&F::default(), &(add as fn(_, _) -> _), address)
    }

    #[test]
    fn a_function_is_found_by_its_identifier_and_called() {
        let registry = registry([ADD, ALSO_ADD]).unwrap();
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
    fn the_nodes_own_functions_are_in_every_program() {
        let registry = Registry::of_this_program().unwrap();
        let echo: fn(Vec<u8>) -> Vec<u8> = crate::built_in::echo;
        let [id] = registry.pointer(Pointer::new::<fn(Vec<u8>) -> Vec<u8>>(echo as usize)) else {
            panic!("it is registered once")
        };
        assert_eq!(
            (registry.name(*id), registry.program(*id)),
            (Some("ppserver::echo"), Some(ProgramId::BUILT_IN))
        );
        let (mut args, mut result) = (Vec::new(), room::Writer::default());
        values::encode_arguments(&(vec![7_u8; 3],), &mut args).unwrap();
        registry.call(*id).unwrap()(Source::new(&args), &mut result).unwrap();
        assert_eq!(values::decode::<Vec<u8>>(result.few().unwrap()).unwrap(), [7; 3]);
    }

    #[test]
    fn an_identifier_nobody_has_is_not_found() {
        let registry = registry([ADD]).unwrap();
        assert!(registry.call(function_id("tests::gone")).is_none());
    }

    #[test]
    fn two_functions_of_one_name_are_an_error_that_names_them() {
        let error = registry([ADD, ALSO_ADD, ADD]).unwrap_err();
        assert_eq!(error, RegistryError::NameTwice { name: "tests::add", version: "" });
        assert!(error.to_string().contains("rename"), "{error}");
    }

    #[test]
    fn two_versions_of_one_library_are_told_apart_and_each_function_is_found_by_its_type() {
        let of = |version, identity| Function { version, identity, ..ADD };
        let (old, new) = (of("1.0.0", || identity::<u8>(1)), of("2.0.0", || identity::<u16>(2)));
        let both = registry([old, new]).unwrap();
        let ids = [TypeId::of::<u8>(), TypeId::of::<u16>()].map(|item| both.item(item).unwrap());
        assert_eq!(ids, [versioned_id("tests::add", "1.0.0"), versioned_id("tests::add", "2.0.0")]);
        assert_eq!(ids.map(|id| both.name(id)), [Some("tests::add"); 2]);
        assert!(both.item(TypeId::of::<u32>()).is_none());
        let error = registry([old, old]).unwrap_err();
        assert!(error.to_string().contains("1.0.0"), "{error}");
    }

    #[test]
    fn a_pointer_leads_to_all_functions_that_share_its_code() {
        let other = Function { name: || "tests::other", identity: || identity::<u32>(2), ..ADD };
        let registry = registry([ADD, ALSO_ADD, other]).unwrap();
        let leads_to = |address| registry.pointer(identity::<u8>(address).pointer);
        assert_eq!(leads_to(1), [function_id("tests::add"), function_id("tests::also_add")]);
        assert_eq!(leads_to(2), [function_id("tests::other")]);
        assert!(leads_to(3).is_empty());
        assert!(registry.pointer(Pointer::new::<fn()>(1)).is_empty(), "it is called in another way");
    }

    #[test]
    fn arguments_of_another_shape_are_an_error() {
        let error = add(Source::new(&[1]), &mut room::Writer::default()).unwrap_err();
        assert!(matches!(error, CallError::BadArguments(_)), "{error}");
    }
}

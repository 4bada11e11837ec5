//! Functions that can be submitted.

use std::any::{Any, TypeId};
use std::cell::Cell;

use pp_node::functions::{Pointer, Registry};
use pp_protocol::{FunctionId, ProgramId};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// A function that takes the tuple `Args` and can be called in another process.
///
/// Implemented for every `fn` item of up to twelve arguments whose arguments can be serialised and whose result can be
/// deserialised. That it can be found there too is the business of `#[job]`, and checked when it is submitted.
///
/// Pointers to such functions (`fn(u64) -> u64`, which is also what `if large { f } else { g }` yields) are told by where
/// they lead. Where that says too little, since the compiler has merged functions that do the same or copied one, the
/// job's outcome is an error that says so: pass the function itself.
///
/// It is implemented here only.
pub trait JobFunction<Args>: Copy + sealed::Sealed<Args> + 'static {
    /// Its result.
    type Output: DeserializeOwned + Send + 'static;

    /// The function it leads to, if it is a pointer.
    #[doc(hidden)]
    fn pointer(&self) -> Option<Pointer>;
}

mod sealed {
    /// Keeps [`JobFunction`](super::JobFunction) from being implemented elsewhere.
    pub trait Sealed<Args> {}
}

macro_rules! job_function {
    ($($argument:ident),*) => {
        impl<F, R, $($argument),*> sealed::Sealed<($($argument,)*)> for F where F: Fn($($argument),*) -> R {}

        impl<F, R, $($argument),*> JobFunction<($($argument,)*)> for F
        where
            F: Fn($($argument),*) -> R + Copy + 'static,
            R: DeserializeOwned + Send + 'static,
            $($argument: Serialize + 'static),*
        {
            type Output = R;

            fn pointer(&self) -> Option<Pointer> {
                let pointer = (self as &dyn Any).downcast_ref::<fn($($argument),*) -> R>()?;
                Some(Pointer::new::<fn($($argument),*) -> R>(*pointer as usize))
            }
        }
    };
}

job_function!();
job_function!(A);
job_function!(A, B);
job_function!(A, B, C);
job_function!(A, B, C, D);
job_function!(A, B, C, D, E);
job_function!(A, B, C, D, E, G);
job_function!(A, B, C, D, E, G, H);
job_function!(A, B, C, D, E, G, H, I);
job_function!(A, B, C, D, E, G, H, I, J);
job_function!(A, B, C, D, E, G, H, I, J, K);
job_function!(A, B, C, D, E, G, H, I, J, K, L);
job_function!(A, B, C, D, E, G, H, I, J, K, L, M);

/// A function as it is known to its program.
#[derive(Clone, Copy, Debug)]
pub(crate) struct KnownFunction {
    pub(crate) id: FunctionId,
    /// Number of the session's program that has it.
    pub(crate) program: ProgramId,
}

/// A function that cannot be told from what was passed.
#[derive(Clone, Copy, Debug)]
pub(crate) enum NotFound {
    /// Its name, as the compiler has it.
    NotRegistered(&'static str),
    /// A pointer that leads to both.
    SameCode { first: &'static str, second: &'static str },
}

/// The full path of a function that was submitted.
pub(crate) fn name_of(id: FunctionId) -> &'static str {
    Registry::of_this_program().ok().and_then(|registry| registry.name(id)).unwrap_or("a function")
}

/// Looks a function up by its own type, which no other has; a pointer by where it leads.
///
/// # Errors
/// When it is not registered, or cannot be told from others.
pub(crate) fn find<F: JobFunction<A>, A>(function: F) -> Result<KnownFunction, NotFound> {
    thread_local! {
        /// The function found last: most programs submit one function at a time.
        static LAST: Cell<Option<(TypeId, KnownFunction)>> = const { Cell::new(None) };
    }

    let item = TypeId::of::<F>();
    if let Some((last, known)) = LAST.get()
        && last == item
    {
        return Ok(known);
    }
    let not_registered = || NotFound::NotRegistered(std::any::type_name::<F>());
    let registry = Registry::of_this_program().map_err(|_| not_registered())?;
    let known =
        |id| registry.program(id).map(|program| KnownFunction { id, program }).ok_or_else(not_registered);
    if let Some(pointer) = function.pointer() {
        return match registry.pointer(pointer) {
            [] => Err(not_registered()),
            [id] => known(*id),
            [first, second, ..] => {
                Err(NotFound::SameCode { first: name_of(*first), second: name_of(*second) })
            }
        };
    }
    let found = known(registry.item(item).ok_or_else(not_registered)?)?;
    LAST.set(Some((item, found)));
    Ok(found)
}

/// Remedy for a function of this name (as the compiler calls it) that is not registered.
pub(crate) fn remedy(name: &str) -> &'static str {
    if name.contains("{{closure}}") {
        "a closure cannot be a job, since no other process can find it; write it as a function with #[job], and pass what \
         it captures as arguments"
    } else if name.starts_with("fn(") || name.starts_with("for<") {
        "it is a pointer, which leads to no function with #[job] as far as can be told; pass the function itself, in each \
         branch if there are several"
    } else if name.starts_with("extern ") || name.starts_with("unsafe ") {
        "it is a pointer to a function that cannot be a job; write a plain function with #[job] that calls it"
    } else if name.contains('<') {
        "a generic function or a method cannot be a job; write a plain function with #[job] that calls it"
    } else {
        "write #[job] above it"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn generic<T>(value: T) -> T {
        value
    }

    fn plain(n: u64) -> u64 {
        n
    }

    fn remedy_of<F: JobFunction<(u64,)>>(function: F) -> &'static str {
        let Err(NotFound::NotRegistered(name)) = find(function) else { panic!("it is not registered") };
        remedy(name)
    }

    #[test]
    fn what_to_do_depends_on_what_it_is() {
        assert!(remedy_of(plain).starts_with("write #[job]"));
        assert!(remedy_of(|n: u64| n).starts_with("a closure"));
        assert!(remedy_of(generic::<u64>).starts_with("a generic function"));
        assert!(remedy_of(plain as fn(u64) -> u64).starts_with("it is a pointer, which"));
        assert!(remedy_of(u64::count_zeros_of).starts_with("a generic function or a method"));
    }

    trait CountZeros {
        fn count_zeros_of(self) -> u32;
    }

    impl CountZeros for u64 {
        fn count_zeros_of(self) -> u32 {
            self.count_zeros()
        }
    }
}

//! Everything here can be a job, whatever it and its surroundings are called.
#![forbid(unsafe_code)]
#![deny(warnings, missing_docs, unused_qualifications, clippy::all, clippy::pedantic, elided_lifetimes_in_paths)]
#![allow(non_camel_case_types, dead_code, reason = "names are what this is about")]

/// Names that the attribute's own code might mean.
mod shadowed {
    use pp_dispatcher::job;

    pub(crate) mod std {}
    pub(crate) mod core {}
    pub(crate) mod pp_dispatcher_ {}
    pub(crate) struct Some;
    pub(crate) struct Ok;
    pub(crate) struct Option;
    pub(crate) struct Result;
    pub(crate) struct String;
    pub(crate) struct Function;
    pub(crate) struct Identity;
    pub(crate) struct usize;
    pub(crate) struct str;

    #[job]
    fn result(result: u64) -> u64 {
        result
    }

    #[job]
    fn arguments(arguments: u64) -> u64 {
        arguments
    }

    #[job]
    fn args(output: u64, args: u64, source: u64, pointer: u64) -> u64 {
        output + args + source + pointer
    }

    #[job]
    fn output() {}

    #[job]
    fn source() {}

    #[job]
    fn pointer() {}

    #[job]
    fn argument_0(argument_1: u64, argument_0: u64) -> u64 {
        argument_0 + argument_1
    }

    #[job]
    fn invoke() {}

    #[job]
    fn name(call: u64) -> u64 {
        call
    }

    #[job]
    fn version() {}

    #[job]
    fn identity() {}

    #[job]
    fn pp_dispatcher() {}

    #[job]
    fn inventory() {}

    #[job]
    fn r#match(r#type: u64) -> u64 {
        r#type
    }
}

/// Under another name.
mod renamed {
    use pp_dispatcher as other;

    mod nested {
        pub(crate) use pp_dispatcher as another;
    }

    #[other::job(crate = pp_dispatcher)]
    fn outer() {}

    #[pp_dispatcher::job(crate = nested::another)]
    fn inner() {}
}

/// Kinds of functions.
mod kinds {
    use pp_dispatcher::job;

    /// A constant one.
    #[job]
    pub const fn constant(n: u64) -> u64 {
        n
    }

    /// With patterns.
    #[job]
    pub(crate) fn patterns((a, b): (u8, u8), mut c: u8, [_, d]: [u8; 2], _: ()) -> u8 {
        c += d;
        a + b + c
    }

    /// Nowhere.
    #[cfg(any())]
    #[job]
    fn missing() -> Missing {}

    /// Nowhere either.
    #[job]
    #[cfg(any())]
    fn missing_too() -> Missing {}

    /// Nor there.
    #[job]
    #[cfg_attr(all(), cfg(any()), doc(hidden))]
    fn missing_as_well() -> Missing {}

    /// Somewhere.
    #[job]
    #[cfg(not(any()))]
    fn there() {}

    /// Old.
    #[job]
    #[deprecated]
    #[inline]
    #[must_use]
    #[track_caller]
    fn old() -> u8 {
        1
    }

    #[job]
    extern "Rust" fn explicit() {}

    #[expect(clippy::too_many_arguments, reason = "as many as there may be")]
    #[job]
    fn twelve(_: u8, _: u8, _: u8, _: u8, _: u8, _: u8, _: u8, _: u8, _: u8, _: u8, _: u8, _: u8) {}

    #[job]
    fn fails(text: String) -> Result<Vec<u8>, String> {
        Err(text)
    }

    fn outer() {
        #[job]
        fn inside(n: u64) -> u64 {
            n
        }
        {
            #[job]
            fn deeper() {}
        }
    }
}

/// Written by a macro.
mod written {
    macro_rules! job {
        ($name:ident, $argument:ident: $type:ty) => {
            #[pp_dispatcher::job]
            fn $name($argument: $type) -> $type {
                $argument
            }
        };
    }
    job!(first, n: u64);
    job!(second, text: String);
}

/// All of this is a library, where what is private and unused is told.
pub fn main() {
    pp_dispatcher::init();
}

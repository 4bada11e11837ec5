//! Whether a function can be a job: all that speaks against it, each at its place, with what to do instead.

use proc_macro2::Span;
use syn::spanned::Spanned;
use syn::visit::Visit;
use syn::{
    Error, FnArg, GenericParam, ItemFn, Lifetime, PatType, Path, ReturnType, Signature, Type, TypeBareFn,
    TypeImplTrait, TypePtr, TypeReference, TypeTraitObject,
};

/// As many as `JobFunction` is implemented for.
const MOST_ARGUMENTS: usize = 12;

/// Whether the function can be a job.
///
/// # Errors
/// Everything that keeps it from being one.
pub(crate) fn check(function: &ItemFn) -> Result<(), Error> {
    let signature = &function.sig;
    let mut objections = Objections::default();
    objections.check_kind(signature);
    if let Some(attribute) =
        function.attrs.iter().find(|attribute| attribute.path().is_ident("target_feature"))
    {
        objections.add(
            attribute.span(),
            "a job may run on a machine without this feature; make it a plain function that looks for the feature and \
             calls this one",
        );
    }
    for input in &signature.inputs {
        match input {
            FnArg::Typed(argument) => objections.check_argument(argument),
            FnArg::Receiver(receiver) => objections.add(
                receiver.span(),
                "a method cannot be a job; make it a free function that takes what it needs as arguments",
            ),
        }
    }
    if signature.inputs.len() > MOST_ARGUMENTS {
        objections.add(
            signature.inputs.span(),
            "a job takes at most 12 arguments; put some of them together in a struct or a tuple",
        );
    }
    objections.check_result(&signature.output);
    objections.errors.map_or(Ok(()), Err)
}

#[derive(Default)]
struct Objections {
    errors: Option<Error>,
    knows_of_lifetimes: bool,
}

impl Objections {
    fn add(&mut self, place: Span, words: &str) {
        let error = Error::new(place, words);
        match &mut self.errors {
            Some(errors) => errors.combine(error),
            None => self.errors = Some(error),
        }
    }

    fn check_kind(&mut self, signature: &Signature) {
        if let Some(keyword) = &signature.asyncness {
            self.add(
                keyword.span(),
                "a job cannot be async: it has a worker to itself and may block; remove `async`, and drive what is \
                 async inside it with a runtime of its own",
            );
        }
        if let Some(keyword) = &signature.unsafety {
            self.add(
                keyword.span(),
                "a job cannot be unsafe, since its caller is another process; wrap it in a safe function",
            );
        }
        if let Some(abi) = &signature.abi
            && abi.name.as_ref().is_none_or(|name| name.value() != "Rust")
        {
            self.add(
                abi.span(),
                "a job cannot be an `extern` function: one that panics ends its worker; remove `extern`, or write a plain \
                 function that calls this one",
            );
        }
        let generics = &signature.generics;
        if generics.params.iter().any(|parameter| !matches!(parameter, GenericParam::Lifetime(_))) {
            self.add(
                generics.params.span(),
                "a job cannot be generic: it is found by its name; write a function for each type that calls this one",
            );
        } else if !generics.params.is_empty() {
            self.add(
                generics.params.span(),
                "a job cannot have lifetimes: what it takes and returns is sent between processes; take and return owned \
                 values",
            );
            // Said once: types that use them say nothing new.
            self.knows_of_lifetimes = true;
        }
        if let Some(variadic) = &signature.variadic {
            self.add(variadic.span(), "a job has a fixed number of arguments; take a Vec");
        }
    }

    fn check_argument(&mut self, argument: &PatType) {
        let conditional = |attribute: &&syn::Attribute| {
            attribute.path().is_ident("cfg") || attribute.path().is_ident("cfg_attr")
        };
        if let Some(attribute) = argument.attrs.iter().find(conditional) {
            self.add(
                attribute.span(),
                "an argument of a job cannot be conditional; write two functions, each with #[cfg]",
            );
        }
        TypeObjections { all: self, role: Role::Argument }.visit_type(&argument.ty);
    }

    fn check_result(&mut self, output: &ReturnType) {
        match output {
            ReturnType::Default => {}
            ReturnType::Type(_, result) if matches!(**result, Type::Never(_)) => {
                self.add(result.span(), "a job has to end; return a value, or nothing");
            }
            ReturnType::Type(_, result) => {
                TypeObjections { all: self, role: Role::Result }.visit_type(result)
            }
        }
    }
}

/// Place of a type in a signature.
#[derive(Clone, Copy)]
enum Role {
    Argument,
    Result,
}

impl Role {
    fn owned(self) -> &'static str {
        match self {
            Self::Argument => "take an owned value; arguments are sent to another process",
            Self::Result => "return an owned value; results are sent from another process",
        }
    }

    fn concrete(self) -> &'static str {
        match self {
            Self::Argument => {
                "name the type of the argument; the process it is sent to has to know what it reads"
            }
            Self::Result => {
                "name the type of the result; whoever reads it in the other process has to know it"
            }
        }
    }
}

/// Looks through a type for what cannot be sent, at whatever depth.
struct TypeObjections<'a> {
    all: &'a mut Objections,
    role: Role,
}

impl<'ast> Visit<'ast> for TypeObjections<'_> {
    fn visit_lifetime(&mut self, lifetime: &'ast Lifetime) {
        if lifetime.ident != "static" && !self.all.knows_of_lifetimes {
            self.all.add(lifetime.span(), self.role.owned());
        }
    }

    fn visit_path(&mut self, path: &'ast Path) {
        if path.segments.first().is_some_and(|first| first.ident == "Self") {
            self.all.add(
                path.span(),
                "an associated function cannot be a job; make it a free function, and name the type",
            );
        } else {
            syn::visit::visit_path(self, path);
        }
    }

    fn visit_type_reference(&mut self, reference: &'ast TypeReference) {
        let mut words = self.role.owned().to_owned();
        if let Some(instead) = owned_form(&reference.elem) {
            words.push_str(&format!(" (here: {instead})"));
        }
        self.all.add(reference.span(), &words);
    }

    fn visit_type_ptr(&mut self, pointer: &'ast TypePtr) {
        self.all.add(pointer.span(), self.role.owned());
    }

    fn visit_type_impl_trait(&mut self, anonymous: &'ast TypeImplTrait) {
        self.all.add(anonymous.span(), self.role.concrete());
    }

    fn visit_type_trait_object(&mut self, object: &'ast TypeTraitObject) {
        self.all.add(object.span(), self.role.concrete());
    }

    fn visit_type_bare_fn(&mut self, function: &'ast TypeBareFn) {
        self.all.add(
            function.span(),
            "a function cannot be sent to another process; send what tells it which one to call, such as an enum",
        );
    }

    fn visit_expr(&mut self, _: &'ast syn::Expr) {
        // The length of an array is no type.
    }
}

/// The owned form of what a reference commonly points to.
fn owned_form(referent: &Type) -> Option<&'static str> {
    match referent {
        Type::Slice(_) => Some("a Vec"),
        Type::Path(path) if path.path.is_ident("str") => Some("a String"),
        Type::Path(path) if path.path.is_ident("Path") => Some("a PathBuf"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quote::quote;

    fn errors(function: proc_macro2::TokenStream) -> Vec<String> {
        let function = syn::parse2::<syn::ItemFn>(function).expect("a function");
        match check(&function) {
            Ok(()) => Vec::new(),
            Err(errors) => errors.into_iter().map(|error| error.to_string()).collect(),
        }
    }

    fn the_error(function: proc_macro2::TokenStream) -> String {
        let [error] = errors(function).try_into().expect("one error");
        error
    }

    #[test]
    fn ordinary_functions_can_be_jobs() {
        assert_eq!(
            errors(quote!(
                fn none() {}
            )),
            [""; 0]
        );
        assert_eq!(
            errors(quote!(
                pub(crate) fn one(n: u64) -> Result<Vec<u64>, String> {
                    Ok(vec![n])
                }
            )),
            [""; 0]
        );
        assert_eq!(
            errors(quote!(
                fn patterns((a, b): (u8, u8), Size { x, .. }: Size, mut c: [u8; 4], _: ()) {}
            )),
            [""; 0]
        );
        assert_eq!(
            errors(quote!(
                fn text(words: Cow<'static, str>) {}
            )),
            [""; 0]
        );
        assert_eq!(
            errors(quote!(
                const fn constant(n: u64) -> u64 {
                    n
                }
            )),
            [""; 0]
        );
    }

    #[test]
    fn references_are_refused_at_any_depth_with_the_owned_form() {
        let taken = the_error(quote!(
            fn f(text: &str) {}
        ));
        assert_eq!(taken, "take an owned value; arguments are sent to another process (here: a String)");
        assert!(
            the_error(quote!(
                fn f(numbers: &[u64]) {}
            ))
            .ends_with("(here: a Vec)")
        );
        assert!(
            the_error(quote!(
                fn f(deep: Vec<Option<&'static u64>>) {}
            ))
            .starts_with("take an owned value")
        );
        assert!(
            the_error(quote!(
                fn f(raw: *const u8) {}
            ))
            .starts_with("take an owned value")
        );
        assert!(
            the_error(quote!(
                fn f() -> &'static str {
                    ""
                }
            ))
            .starts_with("return an owned value")
        );
    }

    #[test]
    fn types_without_a_name_and_functions_are_refused() {
        assert!(
            the_error(quote!(
                fn f(all: impl Iterator<Item = u64>) {}
            ))
            .starts_with("name the type of the argument")
        );
        assert!(
            the_error(quote!(
                fn f() -> impl Sized {}
            ))
            .starts_with("name the type of the result")
        );
        assert!(
            the_error(quote!(
                fn f(any: Box<dyn Any>) {}
            ))
            .starts_with("name the type of the argument")
        );
        assert!(
            the_error(quote!(
                fn f(call: fn(u8) -> u8) {}
            ))
            .contains("a function cannot be sent")
        );
    }

    #[test]
    fn kinds_of_functions_that_cannot_be_jobs_are_refused() {
        assert!(
            the_error(quote!(
                async fn f() {}
            ))
            .contains("remove `async`")
        );
        assert!(
            the_error(quote!(
                unsafe fn f() {}
            ))
            .contains("wrap it in a safe function")
        );
        assert!(
            the_error(quote!(
                fn f<T>(t: T) {}
            ))
            .contains("for each type")
        );
        assert!(
            the_error(quote!(
                fn f<'a>(t: Cow<'a, str>) {}
            ))
            .contains("cannot have lifetimes")
        );
        assert!(
            the_error(quote!(
                fn f<const N: usize>(t: [u8; N]) {}
            ))
            .contains("cannot be generic")
        );
        assert!(
            the_error(quote!(
                fn f(t: Cow<'_, str>) {}
            ))
            .contains("take an owned value")
        );
        assert!(
            the_error(quote!(
                extern "C" fn f() {}
            ))
            .contains("remove `extern`")
        );
        assert!(
            the_error(quote!(
                fn f(at: Vec<Self>) {}
            ))
            .contains("associated function")
        );
        assert!(
            the_error(quote!(
                #[target_feature(enable = "avx2")]
                fn f() {}
            ))
            .contains("without this feature")
        );
        assert!(
            the_error(quote!(
                fn f(&self) {}
            ))
            .contains("make it a free function")
        );
        assert!(
            the_error(quote!(
                fn f() -> ! {
                    loop {}
                }
            ))
            .contains("has to end")
        );
        assert!(
            the_error(quote!(
                fn f(#[cfg(unix)] n: u8) {}
            ))
            .contains("conditional")
        );
    }

    #[test]
    fn twelve_arguments_are_allowed_and_thirteen_are_not() {
        let with = |count: usize| {
            let names = (0..count).map(|n| quote::format_ident!("a{n}"));
            quote!(fn f(#(#names: u8),*) {})
        };
        assert_eq!(errors(with(12)), [""; 0]);
        assert!(the_error(with(13)).contains("at most 12"));
    }

    #[test]
    fn everything_wrong_is_said_at_once() {
        assert_eq!(
            errors(quote!(
                async fn f<T>(a: &str, b: T) -> &'static str {
                    ""
                }
            ))
            .len(),
            4
        );
    }
}

//! The code that makes a function known at link time.

use proc_macro2::{Ident, Span, TokenStream};
use quote::{quote, quote_spanned};
use syn::punctuated::Punctuated;
use syn::spanned::Spanned;
use syn::{Attribute, FnArg, ItemFn, Meta, Path, ReturnType, Token};

/// Submits the function to the inventory, with code that decodes its arguments, calls it and encodes its result.
///
/// It stands beside the function, in a scope of its own, so that it sees the same names and adds none. Whatever it uses is
/// reached through `library`, whatever else may go by the name of `std` or `usize` there; and its own names are such that
/// the function cannot be called by them.
pub(crate) fn registration(function: &ItemFn, library: &Path) -> TokenStream {
    let signature = &function.sig;
    let name = &signature.ident;
    let own = |name: &str| Ident::new(name, Span::mixed_site());
    let (pointer, source, output) = (own("pointer"), own("source"), own("output"));
    let types: Vec<_> = signature.inputs.iter().filter_map(typed).collect();
    let arguments: Vec<_> = (0..types.len()).map(|n| own(&format!("argument_{n}"))).collect();
    let result = match &signature.output {
        ReturnType::Default => quote!(()),
        ReturnType::Type(_, result) => quote!(#result),
    };
    let conditions = function.attrs.iter().filter_map(condition);
    // The compiler tells it of the crate it is compiling: two versions of one library may be part of a program.
    let version = std::env::var("CARGO_PKG_VERSION").unwrap_or_default();
    // A type that cannot be serialised is then reported at the signature, and not at the attribute.
    let at = signature.span().resolved_at(Span::call_site());
    quote_spanned! {at=>
        #(#conditions)*
        #[allow(deprecated)]
        const _: () = {
            #library::__private::inventory::submit! {
                #library::__private::Function {
                    name: || #library::__private::type_name_of_val(&#name),
                    version: #version,
                    identity: || {
                        let #pointer: fn(#(#types),*) -> #result = #name;
                        #library::__private::Identity::of(
                            &#name,
                            &#pointer,
                            #pointer as #library::__private::usize,
                        )
                    },
                    call: |#source, #output| #library::__private::invoke(
                        #source,
                        #output,
                        |(#(#arguments,)*): (#(#types,)*)| #name(#(#arguments),*),
                    ),
                }
            }
        };
    }
}

fn typed(input: &FnArg) -> Option<&syn::Type> {
    match input {
        FnArg::Typed(argument) => Some(&argument.ty),
        FnArg::Receiver(_) => None,
    }
}

/// Condition of the function, if the attribute is one: it makes the registration so, too.
fn condition(attribute: &Attribute) -> Option<TokenStream> {
    if attribute.path().is_ident("cfg") {
        return Some(quote!(#attribute));
    }
    if !attribute.path().is_ident("cfg_attr") {
        return None;
    }
    let metas = attribute.parse_args_with(Punctuated::<Meta, Token![,]>::parse_terminated).ok()?;
    let mut metas = metas.iter();
    let predicate = metas.next()?;
    let conditions: Vec<_> = metas.filter(|meta| meta.path().is_ident("cfg")).collect();
    (!conditions.is_empty()).then(|| quote!(#[cfg_attr(#predicate, #(#conditions),*)]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(function: TokenStream) -> String {
        let function = syn::parse2::<ItemFn>(function).expect("a function");
        crate::signature::check(&function).expect("it can be a job");
        registration(&function, &syn::parse_quote!(::pp_dispatcher)).to_string()
    }

    #[test]
    fn the_call_takes_a_tuple_of_the_arguments() {
        let none = written(quote!(
            fn ping() {}
        ));
        assert!(none.contains(&quote!(|(): ()| ping()).to_string()), "{none}");
        let one = written(quote!(
            fn fib(n: u64) -> u64 {
                n
            }
        ));
        assert!(one.contains(&quote!(|(argument_0,): (u64,)| fib(argument_0)).to_string()), "{one}");
    }

    #[test]
    fn arguments_may_be_patterns() {
        let function = quote!(
            fn area((width, height): (f64, f64), mut times: u32, _: String) {}
        );
        let call = quote! {
            |(argument_0, argument_1, argument_2,): ((f64, f64), u32, String,)| area(argument_0, argument_1, argument_2)
        };
        let written = written(function);
        assert!(written.contains(&call.to_string()), "{written}");
    }

    #[test]
    fn the_name_is_the_one_the_compiler_gives() {
        let written = written(quote!(
            fn fib(n: u64) -> u64 {
                n
            }
        ));
        assert!(written.contains("type_name_of_val (& fib)"), "{written}");
        assert!(written.contains(env!("CARGO_PKG_VERSION")), "with the version of the crate: {written}");
    }

    #[test]
    fn conditions_of_the_function_are_those_of_its_registration() {
        let written = written(quote!(
            /// Documented.
            #[cfg(unix)]
            #[inline]
            #[cfg_attr(test, cfg(unix), doc(hidden))]
            #[cfg_attr(test, inline)]
            fn f() {}
        ));
        let conditions = quote! {
            #[cfg(unix)]
            #[cfg_attr(test, cfg(unix))]
            #[allow(deprecated)]
            const _
        };
        assert!(written.starts_with(&conditions.to_string()), "{written}");
    }
}

//! The code that makes a function known at link time.

use proc_macro2::{Ident, Span, TokenStream};
use quote::quote_spanned;
use syn::spanned::Spanned;
use syn::{Signature, Type};

/// Submits the function to the inventory, with code that decodes its arguments, calls it and encodes its result.
///
/// It stands beside the function, in a scope of its own, so that it sees the same names and adds none.
pub(crate) fn registration(signature: &Signature, types: &[&Type]) -> TokenStream {
    let function = &signature.ident;
    // Names that the function itself cannot be called by: it may be named `argument_0`.
    let names: Vec<_> =
        (0..types.len()).map(|n| Ident::new(&format!("argument_{n}"), Span::mixed_site())).collect();
    // A type that cannot be serialised is then reported at the signature, and not at the attribute.
    let at = signature.span().resolved_at(Span::call_site());
    quote_spanned! {at=>
        const _: () = {
            ::pp_dispatcher::__private::inventory::submit! {
                ::pp_dispatcher::__private::Function {
                    name: || ::std::any::type_name_of_val(&#function),
                    call: |arguments, result| ::pp_dispatcher::__private::invoke(
                        arguments,
                        result,
                        |(#(#names,)*): (#(#types,)*)| #function(#(#names),*),
                    ),
                }
            }
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quote::quote;

    fn written(function: TokenStream) -> String {
        let function = syn::parse2::<syn::ItemFn>(function).expect("a function");
        let types = crate::signature::arguments(&function.sig).expect("it can be a job");
        registration(&function.sig, &types).to_string()
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
        assert!(
            written.contains(&quote!(name: || ::std::any::type_name_of_val(&fib)).to_string()),
            "{written}"
        );
    }
}

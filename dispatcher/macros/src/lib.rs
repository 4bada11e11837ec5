//! The `#[job]` attribute.

use proc_macro::TokenStream;
use quote::quote;
use syn::{FnArg, ItemFn, ReturnType, Type, parse_macro_input, spanned::Spanned};

/// Registers a function, so that it can be submitted to a `Dispatcher` and run in another process.
#[proc_macro_attribute]
pub fn job(attribute: TokenStream, item: TokenStream) -> TokenStream {
    let _ = attribute;
    let function = parse_macro_input!(item as ItemFn);
    let name = &function.sig.ident;
    let types: Vec<_> = function
        .sig
        .inputs
        .iter()
        .filter_map(|input| match input {
            FnArg::Typed(typed) => Some(&*typed.ty),
            FnArg::Receiver(_) => None,
        })
        .collect::<Vec<&Type>>();
    let names: Vec<_> = (0..types.len()).map(|n| quote::format_ident!("argument_{n}")).collect();
    let _ = (ReturnType::Default, function.span());
    quote! {
        #function
        const _: () = {
            ::pp_dispatcher::__private::inventory::submit! {
                ::pp_dispatcher::__private::Function {
                    name: || ::std::any::type_name_of_val(&#name),
                    call: |args, result| ::pp_dispatcher::__private::invoke(
                        args, result, |(#(#names,)*): (#(#types,)*)| #name(#(#names),*)),
                }
            }
        };
    }
    .into()
}

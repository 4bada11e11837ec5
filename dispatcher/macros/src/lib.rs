//! The `#[job]` attribute, which `pp-dispatcher` re-exports.
//!
//! `signature` decides whether a function can be a job and says in its own words why not, `place` whether it stands where
//! one can; `registration` writes the code that makes it known at link time. Nothing here knows how a job is run.

mod place;
mod registration;
mod signature;

use proc_macro2::TokenStream;
use quote::quote;
use syn::parse::Parser;
use syn::{Error, ItemFn, Path, Token};

/// Makes a function known by name, so that a `Dispatcher` can have it called in another process.
///
/// The function stays an ordinary one. It has to be a free function with 0 to 12 arguments, each taken by value; what
/// it takes and returns has to implement serde's `Serialize` and `Deserialize`.
///
/// Where `pp_dispatcher` goes by another name, because it is renamed in `Cargo.toml` or reached through another crate,
/// that is said as `#[job(crate = other::name)]`.
#[proc_macro_attribute]
pub fn job(attribute: proc_macro::TokenStream, item: proc_macro::TokenStream) -> proc_macro::TokenStream {
    expand(attribute.into(), item.into()).into()
}

/// The item as it was, followed by its registration or by the errors in it.
fn expand(attribute: TokenStream, item: TokenStream) -> TokenStream {
    let added = register(attribute, item.clone()).unwrap_or_else(|errors| errors.to_compile_error());
    quote! { #item #added }
}

fn register(attribute: TokenStream, item: TokenStream) -> Result<TokenStream, Error> {
    let library = library(attribute)?;
    let function = syn::parse2::<ItemFn>(item)
        .map_err(|error| Error::new(error.span(), "#[job] belongs above a free function with a body"))?;
    signature::check(&function)?;
    place::check(&function.sig.ident)?;
    Ok(registration::registration(&function, &library))
}

/// Path of `pp_dispatcher` where the attribute stands.
fn library(attribute: TokenStream) -> Result<Path, Error> {
    if attribute.is_empty() {
        return Ok(syn::parse_quote!(::pp_dispatcher));
    }
    let named = |input: syn::parse::ParseStream<'_>| {
        input.parse::<Token![crate]>()?;
        input.parse::<Token![=]>()?;
        input.call(Path::parse_mod_style)
    };
    named.parse2(attribute).map_err(|error| {
        let say = "#[job] takes nothing in parentheses but the name of this library, as in #[job(crate = name)]; limits and \
                   priorities are given where the job is submitted, with Dispatcher::job";
        Error::new(error.span(), say)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_function_is_left_as_it_is_also_when_it_cannot_be_a_job() {
        for function in [
            quote!(
                fn fine(n: u64) -> u64 {
                    n
                }
            ),
            quote!(
                fn refused(n: &str) {}
            ),
            quote!(
                struct No;
            ),
        ] {
            let expanded = expand(TokenStream::new(), function.clone()).to_string();
            assert!(expanded.starts_with(&function.to_string()), "{expanded}");
        }
    }

    #[test]
    fn an_error_becomes_a_compile_error_with_its_words() {
        let expanded = expand(
            TokenStream::new(),
            quote!(
                fn refused(n: &str) {}
            ),
        )
        .to_string();
        assert!(expanded.contains("compile_error") && expanded.contains("owned"), "{expanded}");
        assert!(!expanded.contains("inventory"), "{expanded}");
    }

    #[test]
    fn what_is_not_a_function_and_what_stands_in_parentheses_is_refused() {
        let refused = |attribute, item| register(attribute, item).expect_err("cannot be a job").to_string();
        assert!(
            refused(
                TokenStream::new(),
                quote!(
                    struct No;
                )
            )
            .contains("belongs above a free function")
        );
        assert!(
            refused(
                TokenStream::new(),
                quote!(
                    fn no_body();
                )
            )
            .contains("with a body")
        );
        assert!(
            refused(
                quote!(timeout = 5),
                quote!(
                    fn f() {}
                )
            )
            .contains("Dispatcher::job")
        );
    }
}

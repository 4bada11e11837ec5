//! The `#[job]` attribute, which `pp-dispatcher` re-exports.
//!
//! `signature` decides whether a function can be a job and says in its own words why not; `registration` writes
//! the code that makes it known at link time. Nothing here knows how a job is run.

mod registration;
mod signature;

use proc_macro2::TokenStream;
use quote::quote;
use syn::spanned::Spanned;
use syn::{Error, ItemFn};

/// Makes a function known by name, so that a `Dispatcher` can have it called in another process.
///
/// The function stays an ordinary one. It has to be a free function with 0 to 12 arguments, each taken by value; what
/// it takes and returns has to implement serde's `Serialize` and `Deserialize`.
///
/// ```
/// use pp_dispatcher::{Dispatcher, job};
///
/// #[job]
/// fn power(base: u64, exponent: u32) -> u64 {
///     base.pow(exponent)
/// }
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// pp_dispatcher::init();
/// let dispatcher = Dispatcher::builder().in_process(true).start()?;
/// assert_eq!(dispatcher.submit(power, (2, 10)).wait()?, power(2, 10));
/// # Ok(()) }
/// ```
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
    if !attribute.is_empty() {
        let say = "#[job] takes nothing in parentheses; limits and priorities are given where the job is submitted, \
                   with Dispatcher::job";
        return Err(Error::new(attribute.span(), say));
    }
    let function = syn::parse2::<ItemFn>(item)
        .map_err(|error| Error::new(error.span(), "#[job] belongs above a free function with a body"))?;
    let arguments = signature::arguments(&function.sig)?;
    Ok(registration::registration(&function.sig, &arguments))
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

//! Whether a function stands where a job can: not in an `impl` or a `trait`.
//!
//! An attribute is not told that. The registration beside an associated function would not compile, with errors that say
//! nothing of jobs, so the source file is looked at: where that is not possible, in code that a macro writes, those are all
//! there is.

use proc_macro2::Ident;
use syn::visit::Visit;
use syn::{Attribute, Error, ImplItemFn, TraitItemFn};

/// The column of what stands in no block.
const OUTERMOST: usize = 1;
/// Put before the attribute, to find it again.
const MARK: &str = "pp_job_is_here";

/// Whether the function of this name stands in the open, as far as can be seen.
///
/// # Errors
/// When it is an associated function.
pub(crate) fn check(function: &Ident) -> Result<(), Error> {
    // Only the compiler knows of files; tests of this crate have none.
    if !proc_macro::is_available() {
        return Ok(());
    }
    let attribute = proc_macro::Span::call_site();
    if attribute.column() == OUTERMOST {
        return Ok(());
    }
    let source = attribute.local_file().and_then(|file| std::fs::read_to_string(file).ok());
    match source {
        Some(source) if is_associated(&source, attribute.line(), attribute.column()) => Err(Error::new(
            function.span(),
            "an associated function cannot be a job, which is found by its name alone; move it out of the `impl`, as a free \
             function, or write a free function that calls it",
        )),
        _ => Ok(()),
    }
}

/// Whether the attribute that stands there, counted from one, is that of an associated function.
fn is_associated(source: &str, line: usize, column: usize) -> bool {
    let before: usize = source.split_inclusive('\n').take(line - 1).map(str::len).sum();
    let Some((before, behind)) = source.split_at_checked(before + column - 1) else { return false };
    let Ok(file) = syn::parse_file(&format!("{before}#[{MARK}] {behind}")) else { return false };
    let mut search = Search(false);
    search.visit_file(&file);
    search.0
}

/// Looks for an associated function with the mark.
struct Search(bool);

impl Search {
    fn look_at(&mut self, attributes: &[Attribute]) {
        self.0 |= attributes.iter().any(|attribute| attribute.path().is_ident(MARK));
    }
}

impl<'ast> Visit<'ast> for Search {
    fn visit_impl_item_fn(&mut self, function: &'ast ImplItemFn) {
        self.look_at(&function.attrs);
        syn::visit::visit_impl_item_fn(self, function);
    }

    fn visit_trait_item_fn(&mut self, function: &'ast TraitItemFn) {
        self.look_at(&function.attrs);
        syn::visit::visit_trait_item_fn(self, function);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOURCE: &str = "\
mod inner {
    /// Free.
    #[job]
    fn free() {}
}

impl Shape {
    /// Not free.
    #[job]
    pub fn new(n: u64) {
        #[job]
        fn free() {}
    }
}

trait Area { #[job] fn area(); }
";

    #[test]
    fn associated_functions_are_told_from_free_ones() {
        let of = |line, column| is_associated(SOURCE, line, column);
        assert!(!of(3, 5) && !of(11, 9), "free, in a module and in a function");
        assert!(of(9, 5) && of(16, 14), "in an impl and in a trait");
        assert!(!of(4, 100) && !of(100, 1), "nowhere");
    }
}

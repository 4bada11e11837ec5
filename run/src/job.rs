//! A job as it is composed: its arguments, and the texts made of them.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

use crate::placeholder::{Placeholder, Vocabulary};
use crate::results::{self, ResultFiles};
use crate::template::{Filling, Template, TemplateError};

/// Arguments that belong together: one of each source, or the columns of a line.
pub(crate) type Row = Vec<Vec<u8>>;

/// What is known of a job only when it starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Start {
    /// The slot it runs in, from 1.
    pub slot: usize,
    /// How many jobs there are; matters only where [`Plan::needs_total`](crate::Plan::needs_total).
    pub total: u64,
}

/// A job. Its texts are made when they are asked for, as some of them depend on where it starts.
#[derive(Clone, Debug)]
pub struct Composed {
    pub(crate) sequence: u64,
    pub(crate) rows: Vec<Row>,
    pub(crate) shape: Arc<Shape>,
}

/// What jobs of a plan have in common.
#[derive(Debug)]
pub(crate) struct Shape {
    pub(crate) command: Template,
    pub(crate) tag: Option<Template>,
    pub(crate) vocabulary: Vocabulary,
    pub(crate) slots: usize,
    /// Whether jobs are given blocks of standard input instead of arguments.
    pub(crate) is_piped: bool,
}

impl Composed {
    /// Its number, from 1 in the order of the arguments.
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// Its arguments, as they came.
    pub fn arguments(&self) -> impl Iterator<Item = &[u8]> {
        self.rows.iter().flatten().map(Vec::as_slice)
    }

    /// The line for the shell.
    pub fn command(&self, start: Start) -> Vec<u8> {
        self.fill(&self.shape.command, start)
    }

    /// What stands before each line of its output, with the tab, where `--tag` or `--tagstring` is given.
    pub fn tag(&self, start: Start) -> Option<Vec<u8>> {
        let mut tag = self.fill(self.shape.tag.as_ref()?, start);
        tag.push(b'\t');
        Some(tag)
    }

    /// Another text with placeholders filled in, without quotes: the argument of `--wd`, say. A text that comes from
    /// a command line was judged by [`Plan::check`](crate::Plan::check).
    pub fn expand(&self, text: &[u8], start: Start) -> Result<Vec<u8>, TemplateError> {
        Ok(self.fill(&Template::text(text, &self.shape.vocabulary)?, start))
    }

    /// The same, once for each argument if it has a placeholder for all of them, and the job has several: names of files, say.
    pub fn expand_each(&self, text: &[u8], start: Start) -> Result<Vec<Vec<u8>>, TemplateError> {
        let arguments: Vec<&[u8]> = self.arguments().collect();
        let filling = self.shape.filling(&arguments, self.sequence, start);
        Ok(Template::text(text, &self.shape.vocabulary)?.fill_each(&filling))
    }

    /// The files of its output with this argument of `--results`, which was judged by [`Plan::check`](crate::Plan::check).
    ///
    /// With placeholders, that is the name of a file, or of a directory if a slash ends it. Without, they are below that
    /// directory, in one that has a name and a value for each argument, or the number of a job without any, and never lead out
    /// of it.
    pub fn result_files(&self, results: &[u8], start: Start) -> Result<ResultFiles, TemplateError> {
        let template = Template::text(results, &self.shape.vocabulary)?;
        if template.placeholders().next().is_some() {
            return Ok(ResultFiles::named(self.fill(&template, start)));
        }
        let path = if self.shape.is_piped || self.rows.is_empty() {
            self.sequence.to_string().into()
        } else {
            results::path(&self.rows, &self.shape.vocabulary.names)
        };
        Ok(ResultFiles::within(&Path::new(OsStr::from_bytes(results)).join(path)))
    }

    /// Whether `{uniq}` or `{choose_k}` say that it is not run.
    pub(crate) fn is_left_out(&self) -> bool {
        let arguments: Vec<&[u8]> = self.arguments().collect();
        self.shape.command.placeholders().any(|placeholder| match placeholder {
            Placeholder::Unique => {
                (1..arguments.len()).any(|number| arguments[..number].contains(&arguments[number]))
            }
            Placeholder::Rising => !arguments.is_sorted_by(|a, b| a < b),
            _ => false,
        })
    }

    fn fill(&self, template: &Template, start: Start) -> Vec<u8> {
        let arguments: Vec<&[u8]> = self.arguments().collect();
        template.fill(&self.shape.filling(&arguments, self.sequence, start))
    }
}

impl Shape {
    /// What templates of a job are filled in with.
    pub(crate) fn filling<'a>(&self, arguments: &'a [&'a [u8]], sequence: u64, start: Start) -> Filling<'a> {
        Filling { arguments, sequence, start, slots: self.slots }
    }

    /// Placeholders of the command and the tag.
    pub(crate) fn placeholders(&self) -> impl Iterator<Item = &Placeholder> {
        self.command.placeholders().chain(self.tag.iter().flat_map(Template::placeholders))
    }
}

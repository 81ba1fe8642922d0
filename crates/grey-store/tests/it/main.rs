//! Every engine against one suite, and what each does with damaged files.

mod conformance;
mod damage;
mod options;

//! Every engine against one suite, and what each does with damaged files and power losses.

mod conformance;
mod crash;
mod damage;
mod options;

//! A simulated cluster: members on simulated disks, a network that loses, delays,
//! repeats and reorders, and checks of what may never happen. One seed, one run.

mod check;
mod hostile;
mod tests;
mod world;

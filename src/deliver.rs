//! Delivery: from the outbox to a receiver's 2xx, or to a dead letter.

pub mod sign;

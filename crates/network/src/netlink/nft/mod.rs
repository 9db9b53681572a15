//! nf_tables over netlink (linux/netfilter/nf_tables.h): tables, chains, rules, maps and their elements.

mod expression;
mod object;

pub(crate) use expression::{Expression, Key, Register, Verdict};
pub(crate) use object::{
    Chain, Element, Map, add_chain, add_element, add_map, add_rule, add_table, begin,
    delete_element, delete_table, end, flush_chain, list_elements, list_tables,
};

//! Integration tests: the gateway as a client, an upstream and an operator see it. This file is the table of contents.

mod demo;
mod layers;
mod support;

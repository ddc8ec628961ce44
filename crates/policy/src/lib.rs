//! The decisions: machines and rules without IO, clock or chance.

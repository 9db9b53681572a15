//! The gRPC front: conversions, and the one map from errors to codes.

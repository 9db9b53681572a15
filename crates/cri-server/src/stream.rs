//! Lists as streams.

use std::pin::Pin;

use tokio_stream::Stream;
use tonic::{Response, Status};

/// The most items of one message: far below gRPC's limit, however long labels and annotations are usually.
const PIECE: usize = 1000;

/// A stream of answers.
pub(crate) type Streamed<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// `items` in order, each once, in messages that `wrap` makes; no message at all for no item.
pub(crate) fn pieces<I, T, W>(items: Vec<I>, wrap: W) -> Response<Streamed<T>>
where
    I: Send + 'static,
    T: Send + 'static,
    W: Fn(Vec<I>) -> T + Send + 'static,
{
    let mut rest = items.into_iter();
    let messages = std::iter::from_fn(move || {
        let piece: Vec<I> = rest.by_ref().take(PIECE).collect();
        (!piece.is_empty()).then(|| Ok(wrap(piece)))
    });
    Response::new(Box::pin(tokio_stream::iter(messages)))
}

#[cfg(test)]
mod tests {
    use tokio_stream::StreamExt as _;

    use super::*;

    #[tokio::test]
    async fn every_item_comes_once_and_in_order() {
        for (count, messages) in [(0, 0), (1, 1), (PIECE, 1), (PIECE + 1, 2)] {
            let answer = pieces((0..count).collect(), |piece: Vec<usize>| piece);
            let got: Vec<Vec<usize>> = answer.into_inner().map(Result::unwrap).collect().await;
            assert_eq!(got.len(), messages);
            assert!(got.concat().into_iter().eq(0..count));
        }
    }
}

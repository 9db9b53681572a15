//! An image from its registry to a name, its layers unpacked.

use std::time::Instant;

use cri_api::v1::{ImageSpec, RemoveImageRequest};

use crate::cri::Wanted;
use crate::cri::endpoint::Endpoint;
use crate::cri::figures::Figures;
use crate::cri::machine;

const ROUNDS: usize = 3;

pub async fn measure(endpoints: &[Endpoint], wanted: &Wanted, figures: &mut Figures) {
    if wanted.pull.is_empty() {
        eprintln!("  no image was named by --pull");
        return;
    }
    for _ in 0..ROUNDS {
        for (at, endpoint) in endpoints.iter().enumerate() {
            let (before, began) = (machine::busy(), Instant::now());
            endpoint.pull(&wanted.pull).await;
            let took = began.elapsed();
            let used = machine::busy().saturating_sub(before);
            figures.add("pull and unpack", "s", at, took.as_secs_f64());
            figures.add("CPU time of a pull, registry included", "s", at, used.as_secs_f64());
            let image = ImageSpec { image: wanted.pull.clone(), ..Default::default() };
            let removed =
                endpoint.images().remove_image(RemoveImageRequest { image: Some(image) }).await;
            removed.unwrap_or_else(|e| panic!("{}: {e}", endpoint.name));
        }
    }
}

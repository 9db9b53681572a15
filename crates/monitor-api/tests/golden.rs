//! A record of an end that the first monitor wrote is read by this daemon. The file is never written again.

use std::path::Path;

use monitor_api::ExitRecord;

#[test]
fn an_exit_of_version_1_is_read() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/exit-1");
    let record: ExitRecord = store::read_record(&path).unwrap().unwrap();
    assert_eq!(record.exit.code, 0);
    assert!(record.started_at.0 > 0 && record.exit.finished_at >= record.started_at);
}

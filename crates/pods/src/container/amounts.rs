//! Amounts in annotations. Pure.

/// The number of bytes, with a binary unit or none, that the annotation `name` has.
///
/// # Errors
/// What is wrong with it.
pub(super) fn bytes(name: &str, text: &str) -> Result<u64, String> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, unit) = text.split_at(end);
    let factor = match unit {
        "" => Some(1),
        "Ki" | "KiB" => Some(1 << 10),
        "Mi" | "MiB" => Some(1 << 20),
        "Gi" | "GiB" => Some(1_u64 << 30),
        _ => None,
    };
    let number = digits.parse::<u64>().ok().filter(|number| *number > 0);
    let whole = number.zip(factor).and_then(|(number, factor)| number.checked_mul(factor));
    whole.ok_or_else(|| {
        // What stands there may be long; the name says where to look.
        let shown: String = text.chars().take(40).collect();
        format!("annotation {name} is {shown:?}: bytes such as \"65536\" or \"64Ki\" are needed")
    })
}

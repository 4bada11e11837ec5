//! Numbers that count and wrap around.

/// Whether `number` comes before `other`.
pub(crate) fn is_before(number: u32, other: u32) -> bool {
    (number.wrapping_sub(other) as i32) < 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_in_order_across_the_wrap() {
        assert!(is_before(1, 2) && is_before(u32::MAX, 0) && is_before(u32::MAX, 1 << 30));
        assert!(!is_before(2, 1) && !is_before(7, 7) && !is_before(0, u32::MAX));
    }
}

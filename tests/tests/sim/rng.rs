//! The one source of chance. In: a seed. Out: the same numbers on every machine and with every version of every library,
//! so that a kept seed stays the same story.

/// SplitMix64.
#[derive(Clone, Debug)]
pub(crate) struct Rng(u64);

impl Rng {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed ^ 0x7472_6962_7574_6172)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// `from..to`; `from` if that is empty.
    pub(crate) fn range(&mut self, from: u64, to: u64) -> u64 {
        from + self.next() % to.saturating_sub(from).max(1)
    }

    pub(crate) fn below(&mut self, n: usize) -> usize {
        self.range(0, n as u64) as usize
    }

    pub(crate) fn percent(&mut self, p: u64) -> bool {
        self.range(0, 100) < p
    }

    pub(crate) fn state(&self) -> u64 {
        self.0
    }
}

//! Repeatable chance: splitmix64, a few lines instead of a dependency. Not for secrets.

/// One stream of numbers; the same parts give the same stream.
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64, parts: &[u64]) -> Self {
        let mut dice = Self(seed);
        for &part in parts {
            dice = Self(dice.roll() ^ part.wrapping_mul(0xd6e8_feb8_6659_fd93));
        }
        dice
    }

    /// Any 64 bits (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014).
    pub fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// From 0 to 1, without 1.
    pub fn fraction(&mut self) -> f64 {
        (self.roll() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// True in `rate` of all rolls; never at 0 or less, always at 1 or more.
    pub fn chance(&mut self, rate: f64) -> bool {
        self.fraction() < rate
    }

    /// From 0 to `end`, without `end`; 0 if there is nothing to choose from.
    pub fn below(&mut self, end: usize) -> usize {
        (self.fraction() * end as f64) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_parts_roll_the_same() {
        assert_eq!(Dice::new(7, &[1, 2]).roll(), Dice::new(7, &[1, 2]).roll());
        assert_ne!(Dice::new(7, &[1, 2]).roll(), Dice::new(7, &[2, 1]).roll());
        assert_ne!(Dice::new(7, &[1]).roll(), Dice::new(8, &[1]).roll());
    }

    #[test]
    fn chance_keeps_its_rate() {
        let mut dice = Dice::new(1, &[]);
        let hits = (0..10_000).filter(|_| dice.chance(0.2)).count();
        assert!((1_800..2_200).contains(&hits), "{hits}");
        assert!((0..1_000).all(|_| !dice.chance(0.0) && dice.chance(1.0) && dice.below(3) < 3));
    }
}

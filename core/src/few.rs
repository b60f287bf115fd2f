//! A map of names that has few entries nearly always, and no more room than they need: there is one for each signal of each service. With
//! many entries it is right, and slower than a tree when names are added.

/// Sorted by name.
#[derive(Clone, Debug)]
pub(crate) struct Few<Value>(Vec<(Box<str>, Value)>);

impl<Value> Few<Value> {
    /// Nothing.
    pub(crate) const fn new() -> Self {
        Self(Vec::new())
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// What is there by this name.
    pub(crate) fn get(&self, name: &str) -> Option<&Value> {
        self.place(name).ok().map(|place| &self.0[place].1)
    }

    /// The same, to be changed.
    pub(crate) fn get_mut(&mut self, name: &str) -> Option<&mut Value> {
        self.place(name).ok().map(|place| &mut self.0[place].1)
    }

    /// Puts it there, in place of what was there.
    pub(crate) fn insert(&mut self, name: &str, value: Value) {
        match self.place(name) {
            Ok(place) => self.0[place].1 = value,
            Err(place) => {
                if self.0.len() == self.0.capacity() {
                    self.0.reserve_exact(1 + self.0.len() / 2);
                }
                self.0.insert(place, (name.into(), value));
            }
        }
    }

    /// Keeps those that are to be kept.
    pub(crate) fn retain(&mut self, keep: impl Fn(&Value) -> bool) {
        self.0.retain(|(_, value)| keep(value));
    }

    fn place(&self, name: &str) -> Result<usize, usize> {
        self.0.binary_search_by(|(known, _)| (**known).cmp(name))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::{prop_assert_eq, proptest};

    use super::Few;

    proptest! {
        #[test]
        fn it_is_a_map(named in proptest::collection::vec(("[a-d]{0,2}", 0_u8..9), 0..40)) {
            let (mut few, mut map) = (Few::new(), BTreeMap::new());
            for (name, value) in &named {
                few.insert(name, *value);
                map.insert(name, *value);
            }
            few.retain(|value| value % 3 > 0);
            map.retain(|_, value| *value % 3 > 0);
            prop_assert_eq!(few.len(), map.len());
            for (name, _) in &named {
                prop_assert_eq!(few.get(name), map.get(name));
                prop_assert_eq!(few.get_mut(name), map.get_mut(name));
            }
        }
    }
}

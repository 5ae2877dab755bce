//! The labels of a transaction: a few pairs of short texts.
//!
//! Each open transaction holds its own, so they lie in one piece that is exactly as long as it must
//! be; a tree would begin with room for eleven.

use std::fmt;

use smol_str::SmolStr;

/// Labels, for example `order=4711`: each key once, in the order of the keys.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Labels(Box<[(SmolStr, SmolStr)]>);

impl Labels {
    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<&SmolStr> {
        let place = self.0.binary_search_by(|(known, _)| known.as_str().cmp(key)).ok()?;
        Some(&self.0[place].1)
    }

    /// Keys and values, by key.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&SmolStr, &SmolStr)> {
        self.0.iter().map(|(key, value)| (key, value))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

/// Of a key that comes twice, the last value stays.
impl FromIterator<(SmolStr, SmolStr)> for Labels {
    fn from_iter<I: IntoIterator<Item = (SmolStr, SmolStr)>>(pairs: I) -> Self {
        let pairs = pairs.into_iter();
        // Room for what is certain to come, and so for all of it where the number is known.
        let mut labels: Vec<(SmolStr, SmolStr)> = Vec::with_capacity(pairs.size_hint().0);
        for (key, value) in pairs {
            match labels.binary_search_by(|(known, _)| known.cmp(&key)) {
                Ok(place) => labels[place].1 = value,
                Err(place) => labels.insert(place, (key, value)),
            }
        }
        Self(labels.into())
    }
}

impl<const N: usize> From<[(SmolStr, SmolStr); N]> for Labels {
    fn from(pairs: [(SmolStr, SmolStr); N]) -> Self {
        pairs.into_iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_found_by_key_and_told_in_its_order() {
        let labels = [("order", "1"), ("app", "pay"), ("order", "2")];
        let labels: Labels = labels.into_iter().map(|(key, value)| (key.into(), value.into())).collect();
        let told: Vec<_> = labels.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        assert_eq!(told, [("app", "pay"), ("order", "2")]);
        assert_eq!((labels.get("order").map(SmolStr::as_str), labels.get("shop")), (Some("2"), None));
        assert_eq!((labels.len(), labels.is_empty(), Labels::default().is_empty()), (2, false, true));
        assert_eq!(format!("{labels:?}"), r#"{"app": "pay", "order": "2"}"#);
    }
}

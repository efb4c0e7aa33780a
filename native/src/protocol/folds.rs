//! Which slides are held out together.

use std::collections::BTreeMap;

use magnet_core::random::stream;
use rand::seq::SliceRandom;

use super::results::Group;
use crate::error::InputError;

/// A slide and the patient that it comes from, where known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// The slide's id.
    pub id: String,
    /// Its patient.
    pub patient: Option<String>,
}

/// The slides that each fold holds out: every slide in one fold, groups whole, numbers of groups as equal as can be. The
/// order of `slides` means nothing; the same slides and seed give the same folds.
///
/// # Errors
/// For fewer than two folds, fewer groups than folds, and slides without a patient where patients are to stay together.
pub fn divide(
    slides: &[Member],
    group: Group,
    folds: usize,
    seed: u64,
) -> Result<Vec<Vec<String>>, InputError> {
    if folds < 2 {
        let expected = "at least 2, so that there is something to train on";
        return Err(InputError::in_flag("--folds", "folds", expected, folds));
    }
    let mut groups: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    match group {
        Group::Slide => {
            groups.extend(slides.iter().map(|slide| (slide.id.as_str(), vec![slide.id.as_str()])))
        }
        Group::Patient => {
            let unknown: Vec<&str> = slides
                .iter()
                .filter(|slide| slide.patient.is_none())
                .map(|slide| slide.id.as_str())
                .collect();
            if !unknown.is_empty() {
                let expected = "a patient in the metadata of every slide";
                let found = format!("none for {}", unknown.join(", "));
                return Err(InputError::in_flag("--group", "patient", expected, found));
            }
            for slide in slides {
                let patient = slide.patient.as_deref().unwrap_or_default();
                groups.entry(patient).or_default().push(&slide.id);
            }
        }
    }
    if groups.len() < folds {
        let what = match group {
            Group::Slide => "slides",
            Group::Patient => "patients",
        };
        let found = format!("{} ({})", groups.len(), groups.keys().copied().collect::<Vec<_>>().join(", "));
        return Err(InputError::in_flag("--folds", "folds", format!("at least {folds} {what}"), found));
    }
    let mut order: Vec<Vec<&str>> = groups.into_values().collect();
    order.shuffle(&mut stream(seed, "folds", &[]));
    let of_fold = |fold: usize| {
        let mut held_out: Vec<String> =
            order.iter().skip(fold).step_by(folds).flatten().map(|&id| id.to_owned()).collect();
        held_out.sort();
        held_out
    };
    Ok((0..folds).map(of_fold).collect())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn slides(patients: &[u8]) -> Vec<Member> {
        let member = |(index, patient): (usize, &u8)| Member {
            id: format!("S{index:02}"),
            patient: Some(format!("P{patient}")),
        };
        patients.iter().enumerate().map(member).collect()
    }

    #[test]
    fn too_few_groups_and_slides_without_a_patient_are_named() {
        let mut all = slides(&[0, 0, 1]);
        let error = divide(&all, Group::Patient, 3, 0).unwrap_err().to_string();
        assert!(error.contains("expected at least 3 patients, found 2 (P0, P1)"), "{error}");
        assert!(divide(&all, Group::Slide, 3, 0).is_ok());
        let error = divide(&all, Group::Slide, 1, 0).unwrap_err().to_string();
        assert!(error.contains("at least 2"), "{error}");
        all[0].patient = None;
        all[2].patient = None;
        let error = divide(&all, Group::Patient, 2, 0).unwrap_err().to_string();
        assert!(error.contains("none for S00, S02"), "{error}");
    }

    #[test]
    fn another_seed_gives_other_folds() {
        let all = slides(&[0; 12]);
        let folds = |seed| divide(&all, Group::Slide, 4, seed).unwrap();
        assert_eq!(folds(1), folds(1));
        assert_ne!(folds(1), folds(2));
    }

    proptest! {
        #[test]
        fn every_slide_is_held_out_once_and_no_group_is_divided(
            patients in prop::collection::vec(0..6_u8, 2..30),
            folds in 2..5_usize,
            seed: u64,
            by_patient: bool,
        ) {
            let all = slides(&patients);
            let group = if by_patient { Group::Patient } else { Group::Slide };
            let Ok(divided) = divide(&all, group, folds, seed) else { return Ok(()) };
            let mut held_out: Vec<&String> = divided.iter().flatten().collect();
            held_out.sort();
            prop_assert_eq!(held_out, all.iter().map(|slide| &slide.id).collect::<Vec<_>>());
            let name_of = |id: &String| {
                let slide = all.iter().find(|slide| slide.id == *id).unwrap();
                if by_patient { slide.patient.clone().unwrap() } else { id.clone() }
            };
            let groups: Vec<std::collections::BTreeSet<String>> =
                divided.iter().map(|fold| fold.iter().map(name_of).collect()).collect();
            for (index, fold) in groups.iter().enumerate() {
                prop_assert!(groups[index + 1..].iter().all(|other| fold.is_disjoint(other)));
            }
            let sizes: Vec<usize> = groups.iter().map(|fold| fold.len()).collect();
            prop_assert!(sizes.iter().max().unwrap() - sizes.iter().min().unwrap() <= 1);
            let mut turned = all.clone();
            turned.reverse();
            prop_assert_eq!(divide(&turned, group, folds, seed).unwrap(), divided);
        }
    }
}

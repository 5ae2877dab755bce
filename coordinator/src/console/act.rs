//! Acts in addresses and forms: how one is named there, and read back.

use pactum_proto::v1;
use pactum_proto::v1::act::Act as Kind;
use uuid::Uuid;

use super::link;
use super::text;

/// The pairs of a query or a form.
pub(super) type Pairs = Vec<(String, String)>;

/// The first value of that key; empty if there is none.
pub(super) fn value<'a>(pairs: &'a [(String, String)], key: &str) -> &'a str {
    pairs.iter().find(|(name, _)| name == key).map_or("", |(_, value)| value)
}

/// Reads an act.
///
/// # Errors
/// What is wrong with it, for people.
pub(super) fn read(pairs: &[(String, String)]) -> Result<v1::Act, String> {
    let text = |key: &str| value(pairs, key).trim().to_owned();
    let needed =
        |key: &str| Some(text(key)).filter(|text| !text.is_empty()).ok_or(format!("{key} is missing"));
    let id = |key: &str| match text(key).as_str() {
        "" => Ok(Vec::new()),
        given => given
            .parse::<Uuid>()
            .map(|id| id.as_bytes().to_vec())
            .map_err(|_not_one| format!("{key} takes 32 hexadecimal digits")),
    };
    let branch = || match text("branch").as_str() {
        "" => Ok(0),
        given => {
            u64::from_str_radix(given, 16).map_err(|_not_one| "branch takes 16 hexadecimal digits".to_owned())
        }
    };
    let overrule = |commit| -> Result<Kind, String> {
        Ok(Kind::Overrule(v1::OverruleAct {
            gid: needed("gid")?,
            resource: needed("resource")?,
            branch: branch()?,
            commit,
        }))
    };
    let act = match value(pairs, "do") {
        "retry" => Kind::Retry(v1::RetryAct { gid: needed("gid")? }),
        "resolve" => Kind::Resolve(v1::ResolveAct { gid: needed("gid")? }),
        "overrule-commit" => overrule(true)?,
        "overrule-rollback" => overrule(false)?,
        "forget" => Kind::Forget(v1::ForgetAct { gid: needed("gid")? }),
        "release" => Kind::Release(v1::ReleaseAct { incarnation: id("incarnation")? }),
        "drain" => Kind::Drain(v1::DrainAct { resource: needed("resource")?, instance: id("instance")? }),
        "resume" => Kind::Resume(v1::ResumeAct { resource: needed("resource")?, instance: id("instance")? }),
        other => return Err(format!("{:?} is no act", other.chars().take(40).collect::<String>())),
    };
    Ok(v1::Act { act: Some(act) })
}

/// What a form carries to name it again.
pub(super) fn pairs(act: &v1::Act) -> Pairs {
    let owned = |pairs: &[(&str, String)]| {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect()
    };
    let Some(kind) = &act.act else { return Vec::new() };
    let name = ("do", name(act).to_owned());
    match kind {
        Kind::Retry(v1::RetryAct { gid })
        | Kind::Resolve(v1::ResolveAct { gid })
        | Kind::Forget(v1::ForgetAct { gid }) => owned(&[name, ("gid", gid.clone())]),
        Kind::Overrule(act) => owned(&[
            name,
            ("gid", act.gid.clone()),
            ("resource", act.resource.clone()),
            ("branch", text::branch(act.branch)),
        ]),
        Kind::Release(act) => owned(&[name, ("incarnation", text::id(&act.incarnation))]),
        Kind::Drain(v1::DrainAct { resource, instance })
        | Kind::Resume(v1::ResumeAct { resource, instance }) => {
            owned(&[name, ("resource", resource.clone()), ("instance", text::id(instance))])
        }
    }
}

/// Its name, as the audit has it.
pub(super) fn name(act: &v1::Act) -> &'static str {
    match &act.act {
        None => "",
        Some(Kind::Retry(_)) => "retry",
        Some(Kind::Resolve(_)) => "resolve",
        Some(Kind::Overrule(act)) if act.commit => "overrule-commit",
        Some(Kind::Overrule(_)) => "overrule-rollback",
        Some(Kind::Forget(_)) => "forget",
        Some(Kind::Release(_)) => "release",
        Some(Kind::Drain(_)) => "drain",
        Some(Kind::Resume(_)) => "resume",
    }
}

/// What the button says.
pub(super) fn button(act: &v1::Act) -> &'static str {
    match &act.act {
        None => "",
        Some(Kind::Retry(_)) => "Retry now",
        Some(Kind::Resolve(_)) => "Resolve: have it aborted",
        Some(Kind::Overrule(act)) if act.commit => "Overrule: commit this branch",
        Some(Kind::Overrule(_)) => "Overrule: roll this branch back",
        Some(Kind::Forget(_)) => "Forget its heuristic outcomes",
        Some(Kind::Release(_)) => "Release from doubt",
        Some(Kind::Drain(_)) => "Drain",
        Some(Kind::Resume(_)) => "Resume",
    }
}

/// Whether something may be lost by it that nothing brings back.
pub(super) fn is_grave(act: &v1::Act) -> bool {
    !matches!(act.act, None | Some(Kind::Retry(_) | Kind::Drain(_) | Kind::Resume(_)))
}

/// Where one goes back to from it.
pub(super) fn back(act: &v1::Act) -> String {
    match &act.act {
        Some(
            Kind::Retry(v1::RetryAct { gid })
            | Kind::Resolve(v1::ResolveAct { gid })
            | Kind::Forget(v1::ForgetAct { gid })
            | Kind::Overrule(v1::OverruleAct { gid, .. }),
        ) => format!("/transactions/{}?examine=1", link::encode(gid)),
        Some(Kind::Release(_)) => "/stuck".to_owned(),
        Some(Kind::Drain(_) | Kind::Resume(_)) => "/participants".to_owned(),
        None => "/".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn form(text: &str) -> Pairs {
        text.split('&')
            .filter_map(|pair| pair.split_once('='))
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .collect()
    }

    #[test]
    fn every_act_comes_back_from_the_form_that_names_it() {
        let id = "0199c3aa-0000-7000-8000-0000004a7f2a";
        for text in [
            "do=retry&gid=7f2a".to_owned(),
            "do=resolve&gid=7f2a".to_owned(),
            "do=overrule-commit&gid=7f2a&resource=bank-a&branch=00000000000000ff".to_owned(),
            "do=overrule-rollback&gid=7f2a&resource=bank-a&branch=0000000000000000".to_owned(),
            "do=forget&gid=7f2a".to_owned(),
            format!("do=release&incarnation={id}"),
            "do=release&incarnation=".to_owned(),
            format!("do=drain&resource=bank-a&instance={id}"),
            "do=resume&resource=bank-a&instance=".to_owned(),
        ] {
            let act = read(&form(&text)).unwrap();
            assert_eq!(pairs(&act), form(&text));
            assert_eq!(read(&pairs(&act)), Ok(act));
        }
    }

    #[test]
    fn what_names_no_act_is_refused_in_words() {
        for (text, problem) in [
            ("", "is no act"),
            ("do=commit&gid=7f2a", "is no act"),
            ("do=retry", "gid is missing"),
            ("do=overrule-commit&gid=7f2a", "resource is missing"),
            ("do=overrule-commit&gid=7f2a&resource=a&branch=xyz", "branch takes"),
            ("do=release&incarnation=7f2a", "incarnation takes"),
        ] {
            let error = read(&form(text)).unwrap_err();
            assert!(error.contains(problem), "{text}: {error}");
        }
    }
}

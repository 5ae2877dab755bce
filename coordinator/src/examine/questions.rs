//! Questions about branches, put together by whom they go to, and the answers to them.

use std::collections::BTreeMap;

use pactum_core::id::{BranchId, Gid, InstanceId};
use pactum_proto::v1;

use super::{Asked, Examined, QUESTIONS_MAX, Silent};

/// Questions that go to one instance in one message.
#[derive(Debug)]
pub(super) struct Questions {
    /// Who enlisted the branches; nil if nobody has.
    pub(super) instance: InstanceId,
    /// At most what the wire allows.
    pub(super) questions: Vec<v1::BranchQuestion>,
}

impl Questions {
    /// Groups questions by who enlisted the branches, in messages that the wire takes.
    pub(super) fn by_instance(questions: Vec<v1::BranchQuestion>) -> Vec<Self> {
        let mut groups: BTreeMap<InstanceId, Vec<v1::BranchQuestion>> = BTreeMap::new();
        for question in questions {
            let instance = question.branch.as_ref().map(|branch| branch.instance.as_slice());
            let instance = instance.and_then(|bytes| InstanceId::from_slice(bytes).ok());
            groups.entry(instance.unwrap_or(InstanceId::NIL)).or_default().push(question);
        }
        let chunks = groups.into_iter().flat_map(|(instance, questions)| {
            let chunks: Vec<_> = questions.chunks(QUESTIONS_MAX).map(<[_]>::to_vec).collect();
            chunks.into_iter().map(move |questions| Self { instance, questions })
        });
        chunks.collect()
    }

    /// What the answer says of each branch that was asked for. What it says of others is not looked at.
    pub(super) fn answers(
        self,
        answer: Result<(InstanceId, Examined), Silent>,
    ) -> Vec<(Asked, Result<v1::BranchFinding, Silent>)> {
        let named = self.questions.iter().filter_map(|question| Some((name_of(question)?, question)));
        match answer {
            Err(why) => named.map(|(name, _)| (name, Err(why.clone()))).collect(),
            Ok((instance, examined)) => {
                let mut found: BTreeMap<Asked, v1::BranchFinding> = BTreeMap::new();
                for finding in examined.findings {
                    if let Some(name) = asked(finding.id.as_ref(), finding.branch) {
                        found.entry(name).or_insert(finding);
                    }
                }
                let is_its_own = instance == self.instance;
                named
                    .map(|(name, question)| {
                        let finding =
                            found.remove(&name).map(|finding| believed(finding, question, is_its_own));
                        let unsaid = || Silent::Refused("it said nothing of this branch".to_owned());
                        (name, finding.ok_or_else(unsaid))
                    })
                    .collect()
            }
        }
    }
}

/// What may be believed of a finding: see [`Examiner::each`](super::Examiner::each).
fn believed(
    mut finding: v1::BranchFinding,
    question: &v1::BranchQuestion,
    is_its_own: bool,
) -> v1::BranchFinding {
    use v1::BranchPresence::{Aborted, Open, Unknown};
    let is_guess = !is_its_own && question.evidence.is_none() && matches!(finding.presence(), Aborted | Open);
    if is_guess {
        finding.set_presence(Unknown);
        "only the instance that enlisted it knows, and another one answered".clone_into(&mut finding.note);
    }
    finding
}

fn name_of(question: &v1::BranchQuestion) -> Option<Asked> {
    asked(question.id.as_ref(), question.branch.as_ref()?.id)
}

fn asked(id: Option<&v1::TransactionId>, branch: u64) -> Option<Asked> {
    Some((Gid::from_slice(&id?.gid).ok()?, BranchId::new(branch)))
}

#[cfg(test)]
mod tests {
    use pactum_core::id::ResourceName;

    use super::*;

    fn question(branch: u64, instance: u8, evidence: bool) -> v1::BranchQuestion {
        v1::BranchQuestion {
            id: Some(v1::TransactionId { incarnation: vec![1; 16], gid: vec![2; 16] }),
            branch: Some(v1::Branch { id: branch, instance: vec![instance; 16], ..v1::Branch::default() }),
            evidence: evidence.then(v1::Evidence::default),
        }
    }

    fn finding(branch: u64, presence: v1::BranchPresence) -> v1::BranchFinding {
        let id = Some(v1::TransactionId { incarnation: vec![1; 16], gid: vec![2; 16] });
        v1::BranchFinding { id, branch, presence: presence.into(), ..v1::BranchFinding::default() }
    }

    fn examined(findings: Vec<v1::BranchFinding>) -> Examined {
        Examined { resource: ResourceName::new("bank-a").unwrap(), findings, problem: None, more: false }
    }

    fn answered(
        questions: Vec<v1::BranchQuestion>,
        by: u8,
        findings: Vec<v1::BranchFinding>,
    ) -> Vec<Result<v1::BranchPresence, Silent>> {
        let group = Questions::by_instance(questions).remove(0);
        let by = InstanceId::from_slice(&[by; 16]).unwrap();
        let answers = group.answers(Ok((by, examined(findings))));
        answers.into_iter().map(|(_, answer)| answer.map(|finding| finding.presence())).collect()
    }

    #[test]
    fn questions_go_to_the_instance_that_enlisted_the_branch_in_messages_that_the_wire_takes() {
        let mut questions: Vec<_> = (0..130).map(|branch| question(branch, 7, true)).collect();
        questions.push(question(999, 8, true));
        let groups = Questions::by_instance(questions);
        let sizes: Vec<_> = groups
            .iter()
            .map(|group| (group.instance.as_uuid().as_bytes()[0], group.questions.len()))
            .collect();
        assert_eq!(sizes, [(7, 64), (7, 64), (7, 2), (8, 1)]);
    }

    #[test]
    fn what_was_not_asked_for_is_not_looked_at_and_what_was_not_said_is_no_finding() {
        use v1::BranchPresence::Prepared;
        let answers = answered(
            vec![question(1, 7, true), question(2, 7, true)],
            7,
            vec![finding(1, Prepared), finding(3, Prepared)],
        );
        assert_eq!(answers.len(), 2);
        assert_eq!(answers[0], Ok(Prepared));
        assert!(matches!(&answers[1], Err(Silent::Refused(_))), "{answers:?}");
    }

    #[test]
    fn a_stranger_s_word_that_a_branch_without_a_vote_is_gone_is_not_believed() {
        use v1::BranchPresence::{Aborted, Open, Prepared, Unknown};
        let asked = |evidence, by, presence| {
            answered(vec![question(1, 7, evidence)], by, vec![finding(1, presence)]).remove(0).unwrap()
        };
        assert_eq!(asked(false, 8, Aborted), Unknown);
        assert_eq!(asked(false, 8, Open), Unknown);
        assert_eq!(asked(false, 8, Prepared), Prepared);
        assert_eq!(asked(true, 8, Aborted), Aborted);
        assert_eq!(asked(false, 7, Aborted), Aborted);
        assert_eq!(asked(false, 7, Open), Open);
    }
}

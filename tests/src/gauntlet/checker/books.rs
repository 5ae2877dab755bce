//! Conservation: each balance is what the ledger says, each account's turns have neither gap nor
//! repetition, no money came or went. I4: nothing is prepared, and no lock is held.

use super::View;
use crate::gauntlet::ledger::OPENING;

pub(super) fn check(view: &mut View<'_>) {
    let mut total = 0;
    let mut opening = 0;
    for (bank, statement) in view.history.statements.iter().enumerate() {
        let accounts = statement.balances.len();
        let mut amounts = vec![0_i64; accounts];
        let mut turns: Vec<Vec<i64>> = vec![Vec::new(); accounts];
        for line in &statement.lines {
            let place = usize::try_from(line.leg.account).ok().filter(|place| *place < accounts);
            let Some(place) = place else {
                view.found.push(format!("bank {bank} has a line for no account of its own: {line:?}"));
                continue;
            };
            amounts[place] += line.leg.amount;
            turns[place].push(line.turn);
        }
        for account in 0..accounts {
            let (balance, due) = (statement.balances[account], OPENING + amounts[account]);
            if balance != due {
                view.found
                    .push(format!("bank {bank}, account {account}: holds {balance}, its ledger says {due}"));
            }
            turns[account].sort_unstable();
            let whole = (1_i64..).zip(&turns[account]).all(|(turn, taken)| turn == *taken);
            if !whole || i64::try_from(turns[account].len()) != Ok(statement.turns[account]) {
                view.found.push(format!(
                    "bank {bank}, account {account}: {} turns were taken, its ledger has {:?}",
                    statement.turns[account], turns[account]
                ));
            }
        }
        total += statement.balances.iter().sum::<i64>();
        opening += OPENING * i64::try_from(accounts).expect("few accounts");
        if statement.locks > 0 {
            view.found.push(format!("I4: bank {bank}: prepared transactions hold {} locks", statement.locks));
        }
        for name in &statement.prepared {
            view.found.push(format!("I4: bank {bank} still holds {name} prepared"));
        }
    }
    if total != opening {
        view.found.push(format!("the banks hold {total} together, and held {opening} at first"));
    }
}

#[cfg(test)]
mod tests {
    use crate::gauntlet::checker::{check, testing::sound};

    #[test]
    fn money_from_nowhere_is_caught() {
        let mut history = sound();
        history.statements[0].balances[1] += 1;
        let found = check(&history);
        assert!(found.iter().any(|text| text.contains("its ledger says")), "{found:?}");
        assert!(found.iter().any(|text| text.contains("together")), "{found:?}");
    }

    #[test]
    fn a_lost_turn_is_caught() {
        let mut history = sound();
        history.statements[0].turns[0] = 3;
        assert!(check(&history).iter().any(|text| text.contains("turns were taken")));
    }

    #[test]
    fn what_is_left_behind_is_caught() {
        let mut history = sound();
        history.statements[0].prepared.push("pactum:c:1:2:3".into());
        history.statements[1].locks = 1;
        assert_eq!(check(&history).iter().filter(|text| text.starts_with("I4")).count(), 2);
    }
}

//! In which order modules are loaded that need each other. They are numbers here, and `direct` has for each those that it
//! needs itself.

/// The places of modules, each behind all that need it; or those of a circle, each before what it needs, and the first
/// again at the end.
///
/// Of the many such orders this is depmod's: next is always the one that was the last to have all its users behind it.
pub(crate) fn sort_users_first(direct: &[Vec<usize>]) -> Result<Vec<usize>, Vec<usize>> {
    let mut users = vec![0; direct.len()];
    direct.iter().flatten().for_each(|i| users[*i] += 1);
    let mut free: Vec<_> = (0..direct.len()).filter(|i| users[*i] == 0).collect();
    let mut sorted = Vec::new();
    while let Some(next) = free.pop() {
        sorted.push(next);
        for needed in &direct[next] {
            users[*needed] -= 1;
            if users[*needed] == 0 {
                free.push(*needed);
            }
        }
    }
    match users.iter().position(|left| *left > 0) {
        Some(left) => Err(circle(direct, &users, left)),
        None => Ok(sorted),
    }
}

/// A circle, found from `start` by going from one that has `users` left to one of these.
fn circle(direct: &[Vec<usize>], users: &[usize], start: usize) -> Vec<usize> {
    let mut way = vec![start];
    loop {
        let last = way[way.len() - 1];
        let user = (0..direct.len()).find(|i| (users[*i] > 0) && direct[*i].contains(&last));
        let Some(user) = user else { return way };
        let before = way.iter().position(|i| *i == user);
        way.push(user);
        if let Some(before) = before {
            way.reverse();
            way.truncate(way.len() - before);
            return way;
        }
    }
}

/// For each module, all that it needs, also through others, in the order of `sorted`.
pub(crate) fn needed(direct: &[Vec<usize>], sorted: &[usize]) -> Vec<Vec<usize>> {
    let mut rank = vec![0; sorted.len()];
    sorted.iter().enumerate().for_each(|(at, i)| rank[*i] = at);
    let mut all = vec![Vec::new(); sorted.len()];
    for i in sorted.iter().rev() {
        let through = direct[*i].iter().flat_map(|j| &all[*j]);
        let mut needed: Vec<usize> = direct[*i].iter().chain(through).copied().collect();
        needed.sort_by_key(|j| rank[*j]);
        needed.dedup();
        all[*i] = needed;
    }
    all
}

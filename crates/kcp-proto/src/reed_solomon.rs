//! The systematic Reed-Solomon code that kcp-go takes from klauspost/reedsolomon.
//!
//! The generator is the Vandermonde matrix V\[row\]\[column\] = row^column, times the inverse of its
//! top square, so that the data shards stand in the code unchanged. A parity row does not depend on
//! how many others there are: 10 + 3 is the beginning of 10 + 10.

use crate::gf;

/// Parity rows for a fixed number of data shards.
#[derive(Clone, Debug)]
pub struct ReedSolomon {
    n_data: usize,
    /// One row of `n_data` coefficients for each parity shard.
    parity_rows: Vec<Vec<u8>>,
}

impl ReedSolomon {
    /// Most shards of a group: the rows of the Vandermonde matrix are numbered by field elements.
    pub const MAX_SHARDS: usize = 255;

    /// Builds the code with `n_data` data and `n_parity` parity shards, or `None` when there is no
    /// such code.
    pub fn new(n_data: usize, n_parity: usize) -> Option<Self> {
        if n_data == 0 || n_data + n_parity > Self::MAX_SHARDS {
            return None;
        }
        let vandermonde = |row: usize| -> Vec<u8> {
            let row = u8::try_from(row).unwrap_or(u8::MAX);
            (0..n_data).map(|column| gf::pow(row, column)).collect()
        };
        let top_inverse = inverse((0..n_data).map(vandermonde).collect())?;
        let parity_rows = (n_data..n_data + n_parity)
            .map(|row| {
                let row = vandermonde(row);
                (0..n_data)
                    .map(|column| {
                        row.iter()
                            .zip(&top_inverse)
                            .fold(0, |sum, (&a, inverse)| sum ^ gf::mul(a, inverse[column]))
                    })
                    .collect()
            })
            .collect();
        Some(Self {
            n_data,
            parity_rows,
        })
    }

    /// Adds data shard `data_idx` to the sums that become the parity shards. Once every data shard
    /// has been added, `parity[i]` is parity shard i. Shorter shards count as padded with zeros.
    pub fn add_data<T: AsMut<[u8]>>(&self, data_idx: usize, shard: &[u8], parity: &mut [T]) {
        // 255 shards at most, of which some are data: a stack of this size always suffices.
        let mut coefficients = [0; Self::MAX_SHARDS];
        let n = parity.len().min(self.parity_rows.len());
        for (coefficient, row) in coefficients.iter_mut().zip(&self.parity_rows[..n]) {
            *coefficient = row[data_idx];
        }
        gf::mul_add_each(&mut parity[..n], shard, &coefficients[..n]);
    }

    /// Returns the data shards missing from `data`, in order and each `shard_len` long, or `None`
    /// when `parity` has too few shards for that. `parity` may be shorter than the code's.
    ///
    /// A parity shard that was not needed is compared with what it ought to be: when it differs,
    /// the shards are not of one group, and there is nothing to recover.
    pub fn reconstruct(
        &self,
        data: &[Option<&[u8]>],
        parity: &[Option<&[u8]>],
        shard_len: usize,
    ) -> Option<Vec<Vec<u8>>> {
        if data.len() != self.n_data || parity.len() > self.parity_rows.len() {
            return None;
        }
        let missing: Vec<usize> = (0..data.len()).filter(|&i| data[i].is_none()).collect();
        let mut syndromes = self.syndromes(data, parity, shard_len);
        if syndromes.len() < missing.len() {
            return None;
        }
        let spare = syndromes.split_off(missing.len());
        let matrix = syndromes
            .iter()
            .map(|(row, _)| missing.iter().map(|&column| row[column]).collect())
            .collect();
        let solution = inverse(matrix)?;
        let recovered: Vec<Vec<u8>> = solution
            .iter()
            .map(|coefficients| {
                let mut shard = vec![0; shard_len];
                for ((_, syndrome), &coefficient) in syndromes.iter().zip(coefficients) {
                    gf::mul_add(&mut shard, syndrome, coefficient);
                }
                shard
            })
            .collect();
        for (row, mut syndrome) in spare {
            for (shard, &column) in recovered.iter().zip(&missing) {
                gf::mul_add(&mut syndrome, shard, row[column]);
            }
            if syndrome.iter().any(|&byte| byte != 0) {
                return None;
            }
        }
        Some(recovered)
    }

    /// Returns, for each parity shard at hand, its row and what is left of it without the data
    /// shards at hand: the sum over the missing ones.
    fn syndromes(
        &self,
        data: &[Option<&[u8]>],
        parity: &[Option<&[u8]>],
        shard_len: usize,
    ) -> Vec<(&[u8], Vec<u8>)> {
        let mut rows = Vec::with_capacity(parity.len());
        let mut sums = Vec::with_capacity(parity.len());
        for (row, shard) in self.parity_rows.iter().zip(parity) {
            let Some(shard) = shard else { continue };
            let mut sum = shard.to_vec();
            sum.resize(shard_len, 0);
            rows.push(row.as_slice());
            sums.push(sum);
        }
        let mut coefficients = vec![0; rows.len()];
        for (column, shard) in data.iter().enumerate() {
            let Some(shard) = shard else { continue };
            for (coefficient, row) in coefficients.iter_mut().zip(&rows) {
                *coefficient = row[column];
            }
            gf::mul_add_each(&mut sums, shard, &coefficients);
        }
        rows.into_iter().zip(sums).collect()
    }

    /// Returns the coefficients of each parity shard.
    pub fn parity_rows(&self) -> &[Vec<u8>] {
        &self.parity_rows
    }

    /// Returns how many data shards a group has.
    pub fn n_data(&self) -> usize {
        self.n_data
    }
}

/// Inverts a square matrix by elimination, or returns `None` when it has no inverse.
fn inverse(mut matrix: Vec<Vec<u8>>) -> Option<Vec<Vec<u8>>> {
    let n = matrix.len();
    let mut result: Vec<Vec<u8>> = (0..n)
        .map(|row| (0..n).map(|column| u8::from(row == column)).collect())
        .collect();
    for pivot in 0..n {
        let row = (pivot..n).find(|&row| matrix[row][pivot] != 0)?;
        matrix.swap(pivot, row);
        result.swap(pivot, row);
        let scale = gf::inverse(matrix[pivot][pivot])?;
        for value in matrix[pivot].iter_mut().chain(result[pivot].iter_mut()) {
            *value = gf::mul(*value, scale);
        }
        let (pivot_row, pivot_result) = (matrix[pivot].clone(), result[pivot].clone());
        for row in (0..n).filter(|&row| row != pivot) {
            let factor = matrix[row][pivot];
            gf::mul_add(&mut matrix[row], &pivot_row, factor);
            gf::mul_add(&mut result[row], &pivot_result, factor);
        }
    }
    Some(result)
}

#[cfg(test)]
mod tests {
    #![allow(
        clippy::unwrap_used,
        clippy::cast_possible_truncation,
        reason = "tests"
    )]

    use super::*;

    /// Shards of different lengths, and the parity shards over them.
    fn group(code: &ReedSolomon, n_parity: usize) -> (Vec<Vec<u8>>, Vec<Vec<u8>>) {
        let data: Vec<Vec<u8>> = (0..code.n_data())
            .map(|i| {
                (0..50 + 7 * i)
                    .map(|j| (i * 31 + j * 17 + j / 9) as u8)
                    .collect()
            })
            .collect();
        let longest = data.iter().map(Vec::len).max().unwrap();
        let mut parity = vec![vec![0; longest]; n_parity];
        for (i, shard) in data.iter().enumerate() {
            code.add_data(i, shard, &mut parity);
        }
        (data, parity)
    }

    #[test]
    fn parity_rows_do_not_depend_on_their_number() {
        let three = ReedSolomon::new(10, 3).unwrap();
        let ten = ReedSolomon::new(10, 10).unwrap();
        assert_eq!(three.parity_rows(), &ten.parity_rows()[..3]);
    }

    #[test]
    fn impossible_codes_are_refused() {
        assert!(ReedSolomon::new(0, 3).is_none());
        assert!(ReedSolomon::new(200, 56).is_none());
        assert!(ReedSolomon::new(200, 55).is_some());
    }

    #[test]
    fn every_pattern_of_up_to_three_losses_is_recovered() {
        let code = ReedSolomon::new(10, 3).unwrap();
        let (data, parity) = group(&code, 3);
        let longest = parity[0].len();
        for lost in 0u32..1 << 13 {
            let at_hand =
                |i: usize, shard: &Vec<u8>| (lost & (1 << i) == 0).then_some(shard.clone());
            let data_left: Vec<_> = data
                .iter()
                .enumerate()
                .map(|(i, s)| at_hand(i, s))
                .collect();
            let parity_left: Vec<_> = parity
                .iter()
                .enumerate()
                .map(|(i, s)| at_hand(10 + i, s))
                .collect();
            let n_missing = data_left.iter().filter(|shard| shard.is_none()).count();
            if n_missing > 4 {
                continue;
            }
            let recovered = code.reconstruct(
                &data_left.iter().map(Option::as_deref).collect::<Vec<_>>(),
                &parity_left.iter().map(Option::as_deref).collect::<Vec<_>>(),
                longest,
            );
            let n_parity = parity_left.iter().flatten().count();
            assert_eq!(
                recovered.is_some(),
                n_missing <= n_parity,
                "lost {lost:013b}"
            );
            let missing = data
                .iter()
                .zip(&data_left)
                .filter(|(_, left)| left.is_none());
            for (shard, (original, _)) in recovered.unwrap_or_default().iter().zip(missing) {
                assert_eq!(&shard[..original.len()], original, "lost {lost:013b}");
                assert!(shard[original.len()..].iter().all(|&byte| byte == 0));
            }
        }
    }

    #[test]
    fn shards_of_different_groups_are_noticed_when_parity_is_left_over() {
        let code = ReedSolomon::new(10, 3).unwrap();
        let (data, parity) = group(&code, 3);
        let longest = parity[0].len();
        let mut data: Vec<Option<&[u8]>> =
            data.iter().map(|shard| Some(shard.as_slice())).collect();
        data.rotate_left(1);
        data[4] = None;
        let parity: Vec<Option<&[u8]>> =
            parity.iter().map(|shard| Some(shard.as_slice())).collect();
        assert_eq!(code.reconstruct(&data, &parity, longest), None);
    }
}

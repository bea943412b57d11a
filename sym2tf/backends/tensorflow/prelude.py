"""The few functions that generated code calls besides TensorFlow's own: plain, readable, on tensors of any batch rank.

Those that a program uses are copied into its source, so each stands on its own and uses only `tf`.
"""

from __future__ import annotations

from typing import Any

from sym2tf.lazy import lazy

tf = lazy("tensorflow")


def broadcast_core(x: Any, shape: Any) -> Any:
    """Stretch axes of length 1 so that the last axes of `x` have `shape`."""
    batch = tf.shape(x)[: x.shape.rank - len(shape)]
    return tf.broadcast_to(x, tf.concat([batch, shape], 0))


def pad_axis(x: Any, axis: int, before: Any, after: Any) -> Any:
    """Zeros before and after the elements of one axis (negative)."""
    widths = [[0, 0]] * x.shape.rank
    widths[axis] = [before, after]
    return tf.pad(x, widths)


def transpose_core(x: Any, axes: Any) -> Any:
    """The last axes in a new order; `axes` are negative."""
    rank = x.shape.rank
    return tf.transpose(x, [*range(rank - len(axes)), *(rank + axis for axis in axes)])


def stack_core(parts: Any, axis: int) -> Any:
    """Tensors side by side along a new axis (negative); batch axes broadcast."""
    parts = [tf.convert_to_tensor(part) for part in parts]
    distinct = {id(part): part for part in parts}
    if any(part.shape != parts[0].shape or not part.shape.is_fully_defined() for part in parts):
        shape = tf.zeros([0], tf.int32)
        for rank in sorted({part.shape.rank for part in parts}):
            shapes = tf.stack(tf.shape_n([part for part in distinct.values() if part.shape.rank == rank]))
            longest = tf.where(tf.reduce_any(shapes == 0, 0), 0, tf.reduce_max(shapes, 0))
            shape = tf.broadcast_dynamic_shape(shape, longest)
        distinct = {key: tf.broadcast_to(part, shape) for key, part in distinct.items()}
    return tf.stack([distinct[id(part)] for part in parts], axis)


def concat_core(parts: Any, axis: int) -> Any:
    """Tensors one after the other along an axis (negative); batch axes broadcast."""
    rank = max(part.shape.rank for part in parts)
    parts = [part[(tf.newaxis,) * (rank - part.shape.rank)] for part in parts]
    shapes = [tf.tensor_scatter_nd_update(tf.shape(part), [[rank + axis]], [1]) for part in parts]
    shape = shapes[0]
    for other in shapes[1:]:
        shape = tf.broadcast_dynamic_shape(shape, other)
    lengths = [tf.shape(part)[axis] for part in parts]
    full = [tf.tensor_scatter_nd_update(shape, [[rank + axis]], [length]) for length in lengths]
    return tf.concat([tf.broadcast_to(p, s) for p, s in zip(parts, full, strict=True)], axis)


def reshape_core(x: Any, rank: int, shape: Any) -> Any:
    """The last `rank` axes as axes of lengths `shape`."""
    return tf.reshape(x, tf.concat([tf.shape(x)[: x.shape.rank - rank], shape], 0))


def gather_core(x: Any, index: Any, axis: int, core: int, rank: int) -> Any:
    """`x` with one of its `core` last axes (negative) replaced by the `rank` last ones of `index`; batches agree."""
    batch_rank = index.shape.rank - rank
    if not batch_rank:
        return tf.gather(x, index, axis=axis)
    split = x.shape.rank - core
    batch = tf.broadcast_dynamic_shape(tf.shape(x)[:split], tf.shape(index)[:batch_rank])
    x = tf.broadcast_to(x, tf.concat([batch, tf.shape(x)[split:]], 0))
    index = tf.broadcast_to(index, tf.concat([batch, tf.shape(index)[batch_rank:]], 0))
    return tf.gather(x, index, axis=axis, batch_dims=max(batch_rank, split))


def scatter_add_core(x: Any, index: Any, axis: int, core: int, rank: int, size: Any) -> Any:
    """Sums of elements by segments: the axes of `x` that match `index` become one of length `size`, at `axis`."""
    batch_rank, split = index.shape.rank - rank, x.shape.rank - core
    count, batch = tf.constant(1, tf.int64), tf.zeros([0], tf.int64)
    if batch_rank:
        index = tf.gather(tf.range(tf.cast(size, tf.int64)), index)  # raises where a subscript is outside
        batch = tf.broadcast_dynamic_shape(
            tf.shape(x, out_type=tf.int64)[:split], tf.shape(index, out_type=tf.int64)[:batch_rank]
        )
        x = tf.broadcast_to(x, tf.concat([batch, tf.shape(x, out_type=tf.int64)[split:]], 0))
        index = tf.broadcast_to(index, tf.concat([batch, tf.shape(index, out_type=tf.int64)[batch_rank:]], 0))
        batch_rank, count = max(batch_rank, split), tf.reduce_prod(batch)
        index = tf.reshape(index, [count, -1]) + size * tf.range(count)[:, tf.newaxis]
    total, rest = x.shape.rank, -axis - 1
    first = total - rest - rank
    order = [*range(batch_rank), *range(first, first + rank), *range(batch_rank, first), *range(first + rank, total)]
    x = tf.transpose(x, order)
    others = tf.shape(x, out_type=tf.int64)[batch_rank + rank :]
    index = tf.reshape(index, [-1, 1])
    x = tf.reshape(x, tf.concat([tf.shape(index, out_type=tf.int64)[:1], others], 0))
    sums = tf.scatter_nd(index, x, tf.concat([[count * size], others], 0))
    sums = tf.reshape(sums, tf.concat([batch, [tf.cast(size, tf.int64)], others], 0))
    back = [k if k < batch_rank else k + 1 for k in range(first)] + [batch_rank]
    return tf.transpose(sums, [*back, *range(first + 1, sums.shape.rank)])


def correlate_core(x: Any, k: Any, dims: int) -> Any:
    """Sums over channels and windows along the last `dims` axes; axes in front of channels and kernels broadcast."""
    split = k.shape.rank - dims - 2

    def convolved(x: Any, k: Any) -> Any:  # (batch, channels, lengths) with (outputs, channels, widths)
        widths = k.shape[2:]
        if not all(widths):  # one that may be 0, for which TensorFlow has no kernel: a zero on both changes nothing
            more = tf.cast(tf.shape(k)[2:] == 0, tf.int32)
            more = tf.pad(more[:, tf.newaxis], [[2, 0], [1, 0]])
            x, k = tf.pad(x, more), tf.pad(k, more)
        x = tf.transpose(x, [0, *range(2, 2 + dims), 1])
        k = tf.transpose(k, [*range(2, 2 + dims), 1, 0])
        y = tf.nn.convolution(x, k, padding="VALID", data_format=("NWC", "NHWC", "NDHWC")[dims - 1])
        return tf.transpose(y, [0, dims + 1, *range(1, dims + 1)])

    if all(d == 1 for d in k.shape[:split]):
        k = tf.reshape(k, tf.shape(k)[split:])
        front, rest = tf.shape(x)[: -dims - 1], tf.shape(x)[-dims - 1 :]
        y = convolved(tf.reshape(x, tf.concat([[tf.reduce_prod(front)], rest], 0)), k)
        front = tf.concat([tf.ones([max(split - x.shape.rank + dims + 1, 0)], tf.int32), front], 0)
        return tf.reshape(y, tf.concat([front, tf.shape(y)[1:]], 0))
    front = tf.broadcast_dynamic_shape(tf.shape(x)[: -dims - 1], tf.shape(k)[:split])
    count = tf.reduce_prod(front)
    x, k = (tf.broadcast_to(v, tf.concat([front, tf.shape(v)[-r:]], 0)) for v, r in ((x, dims + 1), (k, dims + 2)))
    x = tf.reshape(x, tf.concat([[count], tf.shape(x)[-dims - 1 :]], 0))
    k = tf.reshape(k, tf.concat([[count], tf.shape(k)[-dims - 2 :]], 0))

    @tf.autograph.experimental.do_not_convert  # type: ignore[untyped-decorator]
    def each(pair: Any) -> Any:
        return convolved(pair[0][tf.newaxis], pair[1])[0]

    y = tf.map_fn(each, (x, k), fn_output_signature=x.dtype)
    return tf.reshape(y, tf.concat([front, tf.shape(y)[1:]], 0))


def one_hot_core(index: Any, size: Any, dtype: Any) -> Any:
    """1 where the new last axis of length `size` meets the integer, else 0."""
    return tf.one_hot(index, tf.cast(size, tf.int32), dtype=dtype)


def stride_axis(x: Any, axis: int, low: Any, size: Any, step: int) -> Any:
    """Every `step`-th element of one axis (negative), `size` of them from `low`; backwards where `step` is negative."""
    every = abs(step)
    taken = x[(..., slice(low, low + size * every, every), *(slice(None),) * (-axis - 1))]
    return tf.reverse(taken, [axis]) if step < 0 else taken


def dilate_axis(x: Any, axis: int, start: Any, size: Any, step: int) -> Any:
    """The elements of one axis (negative) at `start`, `start + step`, ... of one of length `size`, zeros between."""
    every, shape = abs(step), tf.shape(x, out_type=tf.int64)
    count = shape[axis]
    low = start if step > 0 else start + (count - 1) * step
    x = tf.reverse(x, [axis]) if step < 0 else x
    rank = x.shape.rank
    between = [[0, 0]] * (rank + 1)
    between[rank + axis + 1] = [0, every - 1]
    spread = tf.pad(tf.expand_dims(x, rank + axis + 1), between)
    spread = tf.reshape(spread, tf.concat([shape[: rank + axis], [count * every], shape[rank + axis + 1 :]], 0))
    widths = [[0, 0]] * rank
    widths[axis] = [low, tf.maximum(size - low - count * every, 0)]
    return tf.pad(spread, widths)[(..., slice(0, size), *(slice(None),) * (-axis - 1))]


def prod_others(x: Any) -> Any:
    """For each element of the last axis the product of all the others, without dividing."""
    before = tf.math.cumprod(x, axis=-1, exclusive=True)
    after = tf.math.cumprod(x, axis=-1, exclusive=True, reverse=True)
    return before * after


def softmax_core(x: Any, axes: Any) -> Any:
    """exp(x) / sum(exp(x)) over several axes (negative), without overflow."""
    weights = tf.exp(x - tf.reduce_max(x, axis=axes, keepdims=True))
    return weights / tf.reduce_sum(weights, axis=axes, keepdims=True)


def softplus(x: Any) -> Any:
    """log(1 + exp(x)) without overflow; twice as quick as TensorFlow's kernel, and right on a tape at 0."""
    return tf.nn.relu(x) + tf.math.log1p(tf.exp(tf.minimum(x, -x)))


def expm1(x: Any) -> Any:
    """exp(x) - 1 without cancellation; twice as quick as TensorFlow's kernel."""
    return tf.tanh(0.5 * x) * (tf.exp(x) + 1.0)


def logaddexp(x: Any, y: Any) -> Any:
    """log(exp(x) + exp(y)) without overflow."""
    difference = tf.where(tf.equal(x, y), tf.zeros_like(x), x - y)  # inf - inf would be NaN
    return tf.maximum(x, y) + tf.math.log1p(tf.exp(-tf.abs(difference)))


def batch_shape(*operands: Any) -> Any:
    """The common batch shape of pairs `(tensor, number of core axes)`; None where nothing has batch axes."""
    shape = None
    for x, core in operands:
        batch = x.shape.rank - core
        if batch:
            own = tf.shape(x)[:batch]
            shape = own if shape is None else tf.broadcast_dynamic_shape(shape, own)
    return shape


def full_batch(x: Any, core: int, shape: Any) -> Any:
    """`x` broadcast to the batch shape; it has `core` core axes."""
    if shape is None:
        return x
    if core:
        shape = tf.concat([shape, tf.shape(x)[x.shape.rank - core :]], 0)
    return tf.broadcast_to(x, shape)


def solve_core(a: Any, b: Any, adjoint: bool) -> Any:
    """The x with a x = b, or transpose(a) x = b; batch axes broadcast, and one matrix is factored once for a batch."""
    if a.shape.rank == 2 and b.shape.rank > 2:
        batch = b.shape.rank - 2
        moved = tf.transpose(b, [batch, *range(batch), batch + 1])
        x = tf.linalg.solve(a, tf.reshape(moved, [tf.shape(b)[-2], -1]), adjoint=adjoint)
        return tf.transpose(tf.reshape(x, tf.shape(moved)), [*range(1, batch + 1), 0, batch + 1])
    if a.shape[:-2] != b.shape[:-2] or not a.shape.is_fully_defined():
        shape = tf.broadcast_dynamic_shape(tf.shape(a)[:-2], tf.shape(b)[:-2])
        a = tf.broadcast_to(a, tf.concat([shape, tf.shape(a)[-2:]], 0))
        b = tf.broadcast_to(b, tf.concat([shape, tf.shape(b)[-2:]], 0))
    return tf.linalg.solve(a, b, adjoint=adjoint)


def lu_factor(a: Any) -> Any:
    """U, and below its diagonal L, of a matrix with its rows in the order `lu_rows`."""
    return tf.linalg.lu(a)[0]


def lu_rows(a: Any) -> Any:
    """The order in which rows have been factored."""
    return tf.cast(tf.linalg.lu(a)[1], tf.int64)


def solve_factored(lu: Any, rows: Any, b: Any, adjoint: bool) -> Any:
    """As `solve_core`, from the factors of the matrix."""
    batch = b.shape.rank - 2 if lu.shape.rank == 2 else 0
    if batch:
        moved = tf.transpose(b, [batch, *range(batch), batch + 1])
        b = tf.reshape(moved, [tf.shape(b)[-2], -1])
    elif lu.shape[:-2] != b.shape[:-2] or not lu.shape.is_fully_defined():
        shape = tf.broadcast_dynamic_shape(tf.shape(lu)[:-2], tf.shape(b)[:-2])
        lu = tf.broadcast_to(lu, tf.concat([shape, tf.shape(lu)[-2:]], 0))
        rows = tf.broadcast_to(rows, tf.concat([shape, tf.shape(rows)[-1:]], 0))
        b = tf.broadcast_to(b, tf.concat([shape, tf.shape(b)[-2:]], 0))
    unit = tf.linalg.set_diag(lu, tf.ones(tf.shape(rows), lu.dtype))
    front = lu.shape.rank - 2
    if adjoint:
        x = tf.linalg.triangular_solve(lu, b, lower=False, adjoint=True)
        x = tf.linalg.triangular_solve(unit, x, lower=True, adjoint=True)
        x = tf.gather(x, tf.argsort(rows), axis=front, batch_dims=front)
    else:
        x = tf.gather(b, rows, axis=front, batch_dims=front)
        x = tf.linalg.triangular_solve(unit, x, lower=True)
        x = tf.linalg.triangular_solve(lu, x, lower=False)
    return tf.transpose(tf.reshape(x, tf.shape(moved)), [*range(1, batch + 1), 0, batch + 1]) if batch else x


def triangular_solve_core(a: Any, b: Any, lower: bool, adjoint: bool) -> Any:
    """As `solve_core` for a triangular matrix, of which the other triangle is not looked at."""
    if a.shape.rank == 2 and b.shape.rank > 2:
        batch = b.shape.rank - 2
        moved = tf.transpose(b, [batch, *range(batch), batch + 1])
        flat = tf.reshape(moved, [tf.shape(b)[-2], -1])
        x = tf.linalg.triangular_solve(a, flat, lower=lower, adjoint=adjoint)
        return tf.transpose(tf.reshape(x, tf.shape(moved)), [*range(1, batch + 1), 0, batch + 1])
    return tf.linalg.triangular_solve(a, b, lower=lower, adjoint=adjoint)


def cholesky_core(a: Any) -> Any:
    """The lower Cholesky factor of the symmetric part; NaN where that is not positive definite."""
    factor = tf.linalg.cholesky(0.5 * (a + tf.linalg.matrix_transpose(a)))
    return tf.linalg.band_part(factor, -1, 0)  # where there is none, TensorFlow leaves the upper triangle unset


def logabsdet_core(a: Any) -> Any:
    """The logarithm of the size of the determinant."""
    return tf.linalg.slogdet(a)[1]


def logdet_core(a: Any) -> Any:
    """The logarithm of the determinant; NaN where it is negative."""
    sign, size = tf.linalg.slogdet(a)
    return tf.where(sign < 0, tf.constant(float("nan"), size.dtype), size)


def cofactor(a: Any) -> Any:
    """The matrix of cofactors, also of a singular matrix: from singular vectors and values, of rows of one size."""
    largest = tf.reduce_max(tf.abs(a), -1)
    scale = tf.where((largest > 0) & tf.math.is_finite(largest), largest, tf.ones([], a.dtype))
    s, u, v = tf.linalg.svd(a / scale[..., tf.newaxis])
    sign = tf.sign(tf.linalg.det(u) * tf.linalg.det(v))[..., tf.newaxis]
    before = tf.math.cumprod(tf.stack([s, scale]), axis=-1, exclusive=True)
    after = tf.math.cumprod(tf.stack([s, scale]), axis=-1, exclusive=True, reverse=True)
    others = before * after
    scaled = tf.matmul(u * (sign * others[0])[..., tf.newaxis, :], v, transpose_b=True)
    return scaled * others[1][..., tf.newaxis]


def cofactor_slope(a: Any, t: Any) -> Any:
    """The derivative of the matrix of cofactors of `a` along `t`."""
    s, u, v = tf.linalg.svd(a)
    sign = tf.sign(tf.linalg.det(u) * tf.linalg.det(v))[..., tf.newaxis, tf.newaxis]
    one = tf.eye(tf.shape(s)[-1], dtype=tf.bool)
    gone = one[:, tf.newaxis, :] | one[tf.newaxis, :, :]
    rest = tf.reduce_prod(tf.where(gone, tf.ones([], s.dtype), s[..., tf.newaxis, tf.newaxis, :]), -1)
    rest = tf.where(one, tf.zeros([], s.dtype), rest)  # products of all singular values but two
    m = tf.matmul(tf.matmul(u, t, transpose_a=True), v)
    diagonal = tf.linalg.diag(tf.linalg.matvec(rest, tf.linalg.diag_part(m)))
    middle = diagonal - rest * tf.linalg.matrix_transpose(m)
    return sign * tf.matmul(tf.matmul(u, middle), v, transpose_b=True)


def eigh_values_core(a: Any) -> Any:
    """The eigenvalues of the symmetric part, ascending; NaN for a matrix that is not finite."""
    a = 0.5 * (a + tf.linalg.matrix_transpose(a))
    finite = tf.reduce_all(tf.math.is_finite(a), [-2, -1], keepdims=True)
    values, _ = tf.linalg.eigh(tf.where(finite, a, tf.zeros([], a.dtype)))
    return tf.where(finite[..., 0], values, tf.constant(float("nan"), a.dtype))


def eigh_values_alone(a: Any) -> Any:
    """As `eigh_values_core`, where nobody needs the vectors."""
    a = 0.5 * (a + tf.linalg.matrix_transpose(a))
    finite = tf.reduce_all(tf.math.is_finite(a), [-2, -1], keepdims=True)
    values = tf.linalg.eigvalsh(tf.where(finite, a, tf.zeros([], a.dtype)))
    return tf.where(finite[..., 0], values, tf.constant(float("nan"), a.dtype))


def eigh_vectors_core(a: Any) -> Any:
    """Eigenvectors of the symmetric part as columns; the first component that is not small is positive."""
    a = 0.5 * (a + tf.linalg.matrix_transpose(a))
    finite = tf.reduce_all(tf.math.is_finite(a), [-2, -1], keepdims=True)
    _, vectors = tf.linalg.eigh(tf.where(finite, a, tf.zeros([], a.dtype)))
    size = tf.abs(vectors)
    large = tf.cast(size >= 0.5 * tf.reduce_max(size, -2, keepdims=True), a.dtype)
    first = tf.where(tf.cumsum(large, -2, exclusive=True) > 0, tf.zeros([], a.dtype), large)
    sign = tf.sign(tf.reduce_sum(vectors * first, -2, keepdims=True))
    return tf.where(finite, vectors * sign, tf.constant(float("nan"), a.dtype))


def svd_values_core(a: Any) -> Any:
    """The singular values, descending."""
    return tf.linalg.svd(a)[0]


def svd_values_alone(a: Any) -> Any:
    """As `svd_values_core`, where nobody needs the vectors."""
    return tf.linalg.svd(a, compute_uv=False)


def svd_left_core(a: Any) -> Any:
    """Left singular vectors as columns; the first component that is not small is positive."""
    _, u, _ = tf.linalg.svd(a)
    size = tf.abs(u)
    large = tf.cast(size >= 0.5 * tf.reduce_max(size, -2, keepdims=True), a.dtype)
    first = tf.where(tf.cumsum(large, -2, exclusive=True) > 0, tf.zeros([], a.dtype), large)
    return u * tf.sign(tf.reduce_sum(u * first, -2, keepdims=True))


def svd_right_core(a: Any) -> Any:
    """Right singular vectors as columns, with the signs that belong to those of `svd_left_core`."""
    _, u, v = tf.linalg.svd(a)
    size = tf.abs(u)
    large = tf.cast(size >= 0.5 * tf.reduce_max(size, -2, keepdims=True), a.dtype)
    first = tf.where(tf.cumsum(large, -2, exclusive=True) > 0, tf.zeros([], a.dtype), large)
    return v * tf.sign(tf.reduce_sum(u * first, -2, keepdims=True))


def qr_q_core(a: Any) -> Any:
    """The factor Q of a = Q R, where the diagonal of R is positive."""
    q, r = tf.linalg.qr(a)
    diagonal = tf.linalg.diag_part(r)
    return q * tf.where(diagonal < 0, -tf.ones_like(diagonal), tf.ones_like(diagonal))[..., tf.newaxis, :]


def qr_r_core(a: Any) -> Any:
    """The factor R of a = Q R, with a positive diagonal."""
    _, r = tf.linalg.qr(a)
    diagonal = tf.linalg.diag_part(r)
    return r * tf.where(diagonal < 0, -tf.ones_like(diagonal), tf.ones_like(diagonal))[..., tf.newaxis]


def expm_core(a: Any) -> Any:
    """The exponential of a matrix."""
    return tf.linalg.expm(a)


def logm_core(a: Any) -> Any:
    """The principal logarithm of a matrix; NaN where it is not real."""
    answer = tf.linalg.logm(tf.cast(a, tf.complex64 if a.dtype == tf.float32 else tf.complex128))
    # an eigenvalue on the negative axis gives the imaginary part a norm of pi at least
    real = tf.norm(tf.math.imag(answer), axis=[-2, -1], keepdims=True) < 1.0
    return tf.where(real, tf.math.real(answer), tf.constant(float("nan"), a.dtype))


def sqrtm_core(a: Any) -> Any:
    """The principal square root of a matrix; NaN where it is not real."""
    return tf.linalg.sqrtm(a)

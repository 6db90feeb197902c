"""Operations of aten that are no composition, by what becomes of them on a chip.

Names are those of aten without overload and without the trailing underscore of in-place forms.
"""

#: Matrix units.
MATRIX = frozenset(
    """mm addmm bmm baddbmm addbmm mv addmv dot vdot _trilinear convolution _convolution
    convolution_overrideable convolution_backward convolution_backward_overrideable""".split()
)

#: Vector unit, one IEEE operation or none: correctly rounded by the host's float32 as well.
EXACT = frozenset(
    """add sub rsub mul div neg abs reciprocal maximum minimum fmax fmin max min amax amin
    argmax argmin clamp clamp_min clamp_max relu threshold threshold_backward hardtanh sign sgn
    signbit copysign floor ceil round trunc frac fmod floor_divide eq ne lt le gt ge equal isnan
    isinf isfinite isclose isposinf isneginf isin allclose logical_and logical_or logical_not
    logical_xor any all nonzero bucketize searchsorted nan_to_num heaviside positive hardshrink
    hardshrink_backward hardtanh_backward bitwise_and bitwise_or bitwise_xor bitwise_not
    bitwise_left_shift bitwise_right_shift __and__ __or__ __xor__ __lshift__ __rshift__ aminmax
    count_nonzero cummax cummin _cummax_helper _cummin_helper max_pool2d_with_indices
    max_pool3d_with_indices adaptive_max_pool2d adaptive_max_pool3d max_unpool2d max_unpool3d
    nextafter ldexp gcd lcm histc bincount unique_dim _unique2 unique_consecutive""".split()
)

#: Vector unit, correctly rounded; the host's vector library is off by an ulp here and there.
ROOTS = frozenset({"sqrt"})

#: Vector unit, functions: computed in float64 and rounded once, or by the host.
FUNCTIONS = frozenset(
    """exp exp2 expm1 log log2 log10 log1p sin cos tan asin acos atan atan2 sinh cosh tanh asinh
    acosh atanh erf erfc erfinv sigmoid rsqrt pow hypot lgamma digamma polygamma mvlgamma remainder
    logaddexp logaddexp2 sinc i0 special_i0e special_i1 special_i1e special_erfcx special_ndtr
    special_ndtri special_log_ndtr special_entr special_xlog1py igamma igammac
    linalg_cholesky_ex linalg_eigh _linalg_eigh linalg_qr linalg_solve_triangular linalg_inv_ex
    _linalg_solve_ex linalg_lu_factor_ex triangular_solve linalg_svd _linalg_svd""".split()
)

#: Vector unit, additions and multiplications in the chip's order.
REDUCTIONS = frozenset({"sum", "mean", "prod"})

#: Vector unit, running sums and products, ascending.
SCANS = frozenset({"cumsum", "cumprod"})

#: Vector unit, additions into chosen places, by ascending index of what is added.
ACCUMULATIONS = frozenset(
    """index_add index_put _index_put_impl _unsafe_index_put scatter_add scatter scatter_reduce
    put""".split()
)

#: Composites without a sum: step by step, or whole where the host's functions are the chip's.
POINTWISE = frozenset(
    """gelu gelu_backward silu silu_backward sigmoid_backward tanh_backward addcmul addcdiv lerp
    softplus softplus_backward leaky_relu leaky_relu_backward elu elu_backward celu selu mish
    mish_backward hardswish hardswish_backward hardsigmoid hardsigmoid_backward log_sigmoid_forward
    log_sigmoid_backward xlogy logit logit_backward softshrink softshrink_backward glu
    glu_backward _prelu_kernel""".split()
)

#: Copies, and conversions between dtypes, nearest-even.
CONVERTED = frozenset({"copy", "_to_copy"})

#: Memory: values change place, never bits; creation and random numbers of the host.
MOVED = frozenset(
    """view _unsafe_view reshape _reshape_alias t transpose permute movedim expand expand_as
    broadcast_to squeeze unsqueeze slice select narrow split split_with_sizes chunk unbind cat stack
    clone contiguous detach alias as_strided unfold index index_select gather take
    masked_select masked_scatter masked_fill where sort topk kthvalue median nanmedian mode
    embedding flip roll repeat repeat_interleave tile tril triu diag msort argsort
    diagonal diag_embed diagonal_copy fill zero zeros ones zeros_like ones_like empty empty_like
    empty_strided empty_permuted full full_like new_zeros new_ones new_empty new_empty_strided
    new_full arange linspace logspace eye tril_indices triu_indices scalar_tensor rand randn
    rand_like randn_like randint randint_like randperm normal normal_functional uniform bernoulli
    exponential geometric cauchy log_normal random multinomial _fused_dropout
    lift_fresh lift lift_fresh_copy _local_scalar_dense is_same_size set resize
    _has_same_storage_numel
    constant_pad_nd select_backward slice_backward diagonal_backward slice_scatter select_scatter
    diagonal_scatter as_strided_scatter index_fill index_copy _unsafe_index one_hot view_as
    _pack_padded_sequence
    unsafe_split unsafe_split_with_sizes unsafe_chunk swapaxes real imag view_as_real is_pinned
    item numpy_T sym_size sym_numel sym_stride sym_storage_offset split_copy unbind_copy
    transpose_copy expand_copy t_copy permute_copy unsqueeze_copy squeeze_copy slice_copy
    select_copy view_copy upsample_nearest1d upsample_nearest2d upsample_nearest3d
    _upsample_nearest_exact1d _upsample_nearest_exact2d _upsample_nearest_exact3d pixel_shuffle
    pixel_unshuffle channel_shuffle native_channel_shuffle reflection_pad1d reflection_pad2d
    reflection_pad3d replication_pad1d replication_pad2d replication_pad3d im2col _chunk_cat
    _nested_tensor_from_mask _pin_memory record_stream resolve_conj resolve_neg
    block_diag meshgrid rot90 _foreach_zero _foreach_copy
    _assert_async _assert_tensor_metadata _has_compatible_shallow_copy_type
    _unsafe_masked_index masked_fill_ _validate_sparse_csr_tensor_args
    convert_element_type device_put""".split()
)

#: Not emulated, though PyTorch could take them apart.
REFUSED = frozenset(
    """grid_sampler_2d grid_sampler_3d _ctc_loss _use_cudnn_ctc_loss complex polar view_as_complex
    special_zeta""".split()
)

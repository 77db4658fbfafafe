"""Operations that count no FLOPs by the convention: they move, select, compare or combine elements one by one.

An operation that is not listed here and has no formula is unknown, and leaves the count empty.
"""

from __future__ import annotations

import functools
import re

import torch

from bench.rank.private import OpOverload

# Suffixes of the backward, in-place and other forms of an operation that is listed below.
_ENDING = re.compile(r"(_copy|_functional|_forward|_backward(_data|_impl|_elemt|_reduce)?|_b?jvp)*_?$")

_ATEN = {
    "elementwise": """
        __irshift__ __lshift__ __rshift__ _add_relu _amp_foreach_non_finite_check_and_unscale _amp_update_scale
        _conj_physical _fake_quantize_learnable_per_channel_affine _fake_quantize_learnable_per_tensor_affine
        _fake_quantize_per_tensor_affine_cachemask_tensor_qparams _fused_adagrad _fused_adam _fused_adamw
        _fused_moving_avg_obs_fq_helper _fused_sgd _masked_scale _prelu_kernel _thnn_fused_gru_cell
        _thnn_fused_lstm_cell abs add binary_cross_entropy binary_cross_entropy_with_logits bitwise_and
        bitwise_left_shift bitwise_or bitwise_right_shift bitwise_xor celu complex copysign div elu eq
        fake_quantize_per_channel_affine_cachemask fake_quantize_per_tensor_affine_cachemask floor_divide gcd ge gelu
        glu glu_backward gt hardshrink hardsigmoid hardswish hardtanh heaviside huber_loss isin isinf isnan lcm le
        leaky_relu log_sigmoid lt mish mse_loss mul ne polar relu remainder rrelu_with_noise rsub smooth_l1_loss
        soft_margin_loss softplus softshrink sub threshold where xlogy
    """,
    "reductions and scans": """
        _aminmax _ctc_loss _cudnn_ctc_loss _cummax_helper _cummin_helper _is_all_true _is_any_true _log_softmax
        _logcumsumexp _masked_softmax _nested_sum _nested_tensor_softmax_with_shape _safe_softmax _segment_reduce
        _softmax _sparse_csr_prod _sparse_csr_sum _sparse_log_softmax _sparse_softmax _sparse_sum _use_cudnn_ctc_loss
        _use_miopen_ctc_loss all allclose amax amin aminmax any argmax argmin count_nonzero cummax cummin cumprod
        cumsum dist histc kthvalue linalg__powsum linalg_vector_norm log_softmax logcumsumexp logsumexp max mean
        median min miopen_ctc_loss mode multi_margin_loss multilabel_margin_loss nanmedian nansum native_norm nll_loss
        nll_loss2d norm prod renorm segment_reduce softmax std std_mean sum trace var var_mean
    """,
    "normalisation and dropout": """
        _batch_norm_no_update _batch_norm_with_update _cudnn_init_dropout_state _fused_dropout _fused_rms_norm
        _native_batch_norm_legit _native_batch_norm_legit_no_training _weight_norm_interface batch_norm
        batch_norm_elemt batch_norm_gather_stats batch_norm_gather_stats_with_counts batch_norm_stats
        batch_norm_update_stats cudnn_batch_norm miopen_batch_norm native_batch_norm native_dropout native_group_norm
        native_layer_norm
    """,
    "pooling, sampling and resizing": """
        _adaptive_avg_pool2d _adaptive_avg_pool3d _grid_sampler_2d_cpu_fallback _upsample_bicubic2d_aa
        _upsample_bilinear2d_aa _upsample_lanczos2d_aa _upsample_nearest_exact1d _upsample_nearest_exact2d
        _upsample_nearest_exact3d adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d adaptive_max_pool2d
        adaptive_max_pool3d affine_grid_generator avg_pool1d avg_pool2d avg_pool3d cudnn_affine_grid_generator
        cudnn_grid_sampler fractional_max_pool2d fractional_max_pool3d grid_sampler_2d grid_sampler_3d max_pool2d
        max_pool2d_with_indices max_pool3d_with_indices max_unpool2d max_unpool3d mkldnn_adaptive_avg_pool2d
        mkldnn_max_pool2d mkldnn_max_pool3d upsample_bicubic2d upsample_bilinear2d upsample_linear1d
        upsample_nearest1d upsample_nearest2d upsample_nearest3d upsample_trilinear3d
    """,
    "indexing, sorting and embedding": """
        _embedding_bag _embedding_bag_dense _embedding_bag_forward_only _embedding_bag_per_sample_weights
        _index_put_impl _unique _unique2 _unsafe_index _unsafe_index_put _unsafe_masked_index
        _unsafe_masked_index_put_accumulate bincount bucketize embedding embedding_dense embedding_renorm gather index
        index_add index_fill index_put index_reduce index_select masked_fill masked_scatter masked_select multinomial
        nonzero nonzero_static put scatter scatter_add scatter_reduce searchsorted sort take topk unique_consecutive
        unique_dim unique_dim_consecutive
    """,
    "copies, shapes and views": """
        _chunk_cat _coalesce _coalesced _convert_indices_from_coo_to_csr _convert_indices_from_csr_to_coo _copy_from
        _copy_from_and_resize _dimI _dimV _fw_primal _has_same_storage_numel _indices _jagged_to_padded_dense
        _lazy_clone _linalg_check_errors _make_dual _mkldnn_reshape _mkldnn_transpose _neg_view
        _nested_compute_contiguous_strides_offsets _nested_from_padded _nested_from_padded_and_nested_example
        _nested_from_padded_tensor _nested_get_jagged_dummy _nested_get_lengths _nested_get_max_seqlen
        _nested_get_min_seqlen _nested_get_offsets _nested_get_ragged_idx _nested_get_values _nested_select
        _nested_tensor_from_mask _nested_tensor_from_mask_left_aligned _nested_tensor_from_tensor_list
        _nested_tensor_size _nested_tensor_storage_offsets _nested_tensor_strides _nested_view_from_buffer
        _nested_view_from_jagged _nnz _pack_padded_sequence _padded_dense_to_jagged _pin_memory _reshape
        _reshape_alias _resize_output _sparse_broadcast_to _sparse_compressed_tensor_with_dims
        _sparse_coo_tensor_with_dims _sparse_coo_tensor_with_dims_and_tensors _sparse_mask_projection _stack _to
        _to_dense _to_sparse _to_sparse_bsc _to_sparse_bsr _to_sparse_csc _to_sparse_csr _transform_bias_rescale_qkv
        _unsafe_view _validate_compressed_sparse_indices _values alias as_strided as_strided_scatter block_diag cat
        ccol_indices channel_shuffle clone col2im col_indices constant_pad_nd copy copy_sparse_to_sparse crow_indices
        dense_dim detach diag_embed diagonal diagonal_scatter expand flip im2col indices is_coalesced is_pinned
        is_same_size is_set_to lift lift_fresh narrow permute pixel_shuffle pixel_unshuffle record_stream
        reflection_pad1d reflection_pad2d reflection_pad3d repeat repeat_interleave replication_pad1d
        replication_pad2d replication_pad3d resize resize_as resize_as_sparse roll rot90 row_indices select
        select_scatter set slice slice_scatter sparse_compressed_tensor sparse_coo_tensor sparse_dim sparse_mask
        sparse_resize sparse_resize_and_clear split split_with_sizes squeeze stack t to_mkldnn to_padded_tensor
        transpose tril triu unbind unfold unsafe_split unsafe_split_with_sizes unsqueeze values view view_as_complex
        view_as_real
    """,
    "new tensors and random numbers": """
        _dirichlet_grad _efficientzerotensor _fill_mem_eff_dropout_mask _new_zeros_with_same_feature_meta
        _philox_key_fold_in _philox_key_split _philox_normal _philox_uniform _sample_dirichlet _standard_gamma
        _standard_gamma_grad arange bartlett_window bernoulli binomial blackman_window cauchy empty empty_like
        empty_permuted empty_strided exponential eye fft_fftfreq fft_rfftfreq fill from_file full full_like geometric
        hamming_window hann_window kaiser_window linspace log_normal logspace new_empty new_empty_strided new_full
        new_ones new_zeros normal ones ones_like poisson rand rand_like randint randint_like randn randn_like random
        randperm range scalar_tensor tril_indices triu_indices uniform zero zeros zeros_like
    """,
    "questions and assertions": """
        _assert_async _assert_scalar _assert_tensor_metadata _functional_assert_async _functional_assert_scalar
        _functional_sym_constrain_range _functional_sym_constrain_range_for_size _fused_sdp_choice _local_scalar_dense
        _print dim equal is_contiguous is_non_overlapping_and_dense is_strides_like_format item layout numel size
        storage_offset stride sym_constrain_range sym_constrain_range_for_size sym_is_contiguous sym_numel sym_size
        sym_storage_offset sym_stride
    """,
}
_FREE = frozenset(word for words in _ATEN.values() for word in words.split())
_FREE_ELSEWHERE = frozenset(
    f"torchvision::{name}{suffix}"
    for name in ("nms", "roi_align", "roi_pool", "ps_roi_align", "ps_roi_pool")
    for suffix in ("", "_backward")
) | {f"torchvision::_{name}_backward" for name in ("roi_align", "roi_pool", "ps_roi_align", "ps_roi_pool")}
# Communication between ranks, profiling, and queries of a tensor's properties.
_FREE_NAMESPACES = ("prim", "c10d", "fsdp", "_c10d_functional", "_c10d_functional_autograd", "_dtensor", "profiler")
_COSTS = "_foreach_mm"


@functools.cache
def is_free(operation: OpOverload) -> bool:
    """Return whether the operation is known to count no FLOPs; those tagged as pointwise count none."""
    namespace, _, name = operation._schema.name.partition("::")
    if torch.Tag.pointwise in operation.tags or namespace in _FREE_NAMESPACES:
        return True
    if namespace in ("aten", "prims") and operation.is_view:
        return True
    if namespace != "aten":
        return f"{namespace}::{name}" in _FREE_ELSEWHERE
    if name.startswith("_foreach_"):
        return name != _COSTS
    return name in _FREE or _ENDING.sub("", name) in _FREE

"""The KV cache's blocks: free ones by the time of their last use, cached ones by their content."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass

NULL_BLOCK = 0
"""Block 0 is never given out, as in vLLM."""


@dataclass
class KVCacheBlock:
    """One block; it keeps its hash while free, so that its content can be used again."""

    block_id: int
    ref_cnt: int = 0
    block_hash: int | None = None


class BlockPool:
    """Gives out blocks, least recently used first."""

    def __init__(self, num_gpu_blocks: int) -> None:
        self.num_gpu_blocks = num_gpu_blocks
        blocks = (KVCacheBlock(i) for i in range(NULL_BLOCK + 1, num_gpu_blocks))
        self._free: OrderedDict[int, KVCacheBlock] = OrderedDict((b.block_id, b) for b in blocks)
        self._cached: dict[int, KVCacheBlock] = {}

    def get_num_free_blocks(self) -> int:
        """Blocks that a new request could take."""
        return len(self._free)

    def get_usage(self) -> float:
        """The used share of the pool, 0 to 1."""
        total = self.num_gpu_blocks - 1
        return 1.0 - self.get_num_free_blocks() / total if total else 0.0

    def get_cached_block(self, block_hash: int) -> KVCacheBlock | None:
        """The block that holds this content, if one still does."""
        return self._cached.get(block_hash)

    def touch(self, blocks: Iterable[KVCacheBlock]) -> None:
        """Adds a user to each block."""
        for block in blocks:
            if block.ref_cnt == 0:
                del self._free[block.block_id]
            block.ref_cnt += 1

    def get_new_blocks(self, num_blocks: int) -> list[KVCacheBlock]:
        """Takes blocks for new content; the caller has checked that so many are free."""
        taken = [self._free.popitem(last=False)[1] for _ in range(num_blocks)]
        for block in taken:
            if block.block_hash is not None:
                del self._cached[block.block_hash]
                block.block_hash = None
            block.ref_cnt = 1
        return taken

    def cache_block(self, block: KVCacheBlock, block_hash: int) -> None:
        """Makes a full block findable, unless another one holds the same content already."""
        if block.block_hash is None and block_hash not in self._cached:
            block.block_hash = block_hash
            self._cached[block_hash] = block

    def free_blocks(self, ordered_blocks: Iterable[KVCacheBlock]) -> None:
        """Removes a user from each block; the first ones given are reused first."""
        for block in ordered_blocks:
            block.ref_cnt -= 1
            if block.ref_cnt == 0:
                self._free[block.block_id] = block

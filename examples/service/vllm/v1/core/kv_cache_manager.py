"""Which blocks belong to which request, with reuse of common prefixes."""

from __future__ import annotations

from dataclasses import dataclass

from vllm.v1.core.block_pool import BlockPool, KVCacheBlock
from vllm.v1.request import Request


@dataclass
class KVCacheBlocks:
    """Blocks of one request, in order; one group, since there is one kind of attention."""

    blocks: tuple[list[KVCacheBlock], ...]

    def get_block_ids(self) -> tuple[list[int], ...]:
        """The ids, group by group."""
        return tuple([block.block_id for block in group] for group in self.blocks)


class KVCacheManager:
    """Allocates, shares and frees the blocks of requests."""

    def __init__(self, num_gpu_blocks: int, block_size: int) -> None:
        self.block_size = block_size
        self.block_pool = BlockPool(num_gpu_blocks)
        self._blocks: dict[str, list[KVCacheBlock]] = {}

    @property
    def usage(self) -> float:
        """The used share of the cache, 0 to 1."""
        return self.block_pool.get_usage()

    def get_computed_blocks(self, request: Request) -> tuple[KVCacheBlocks, int, int]:
        """The longest cached prefix: its blocks, its length in tokens, and a boundary that is 0 here."""
        hits: list[KVCacheBlock] = []
        # The last token is always computed: its logits are needed.
        for block_hash in self._block_hashes(request, request.num_tokens - 1):
            block = self.block_pool.get_cached_block(block_hash)
            if block is None:
                break
            hits.append(block)
        return KVCacheBlocks((hits,)), len(hits) * self.block_size, 0

    def allocate_slots(
        self, request: Request, num_new_tokens: int, new_computed_blocks: KVCacheBlocks | None = None
    ) -> KVCacheBlocks | None:
        """Blocks for the next tokens of a request; None if there are not enough."""
        hits = new_computed_blocks.blocks[0] if new_computed_blocks else []
        owned = self._blocks.setdefault(request.request_id, [])
        num_tokens = request.num_computed_tokens + num_new_tokens
        missing = -(-num_tokens // self.block_size) - len(owned) - len(hits)
        unused_hits = sum(block.ref_cnt == 0 for block in hits)
        if missing > self.block_pool.get_num_free_blocks() - unused_hits:
            return None
        self.block_pool.touch(hits)
        new = self.block_pool.get_new_blocks(max(missing, 0))
        owned += hits + new
        for block, block_hash in zip(owned, self._block_hashes(request, num_tokens), strict=False):
            self.block_pool.cache_block(block, block_hash)
        return KVCacheBlocks((new,))

    def free(self, request: Request) -> None:
        """Gives the request's blocks back, its last one to be reused first."""
        self.block_pool.free_blocks(reversed(self._blocks.pop(request.request_id, [])))

    def _block_hashes(self, request: Request, num_tokens: int) -> list[int]:
        """The hash of each full block among the first tokens; each includes those before it."""
        tokens = request.all_token_ids
        hashes: list[int] = []
        parent = 0
        for end in range(self.block_size, num_tokens + 1, self.block_size):
            parent = hash((parent, *tokens[end - self.block_size : end]))
            hashes.append(parent)
        return hashes

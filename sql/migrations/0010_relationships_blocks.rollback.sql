DROP INDEX CONCURRENTLY IF EXISTS chat.relationships_blocks_idx;

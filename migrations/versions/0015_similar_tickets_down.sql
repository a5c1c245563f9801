DROP TRIGGER search_inserted ON ticket_history;
DROP TRIGGER search_updated ON ticket_history;
DROP TRIGGER search_deleted ON ticket_history;
DROP TRIGGER search_moved ON ticket_history;
DROP TRIGGER search_truncated ON ticket_history;
DROP FUNCTION similar_tickets, similar_answer, search_similar, search_check_question;
DROP FUNCTION search_fresh_scores, search_count_fresh, search_fresh_words, search_due_tickets;
DROP FUNCTION search_matched, search_best, search_scores, search_sum, search_filters, search_terms, search_own_score, search_weights, search_question,
    search_share, search_idf;
DROP FUNCTION search_index_batch, search_add_indexes, search_index_due, search_fill_next, search_delete_replaced;
DROP FUNCTION search_write, search_put_in, search_take_out, search_add_postings, search_configuration, search_made_of, search_filter_words,
    search_day;
DROP FUNCTION search_is_counted, search_words_of, search_finds_longer, search_has_no_blanks, search_parts, search_pieces, search_has_text;
DROP FUNCTION search_note_due, search_note_moved, search_note_truncated;
DROP TYPE similar_ticket, search_fresh, search_filter, search_score, search_term, search_word, search_change;
DROP TABLE search_due, search_tickets, search_postings, search_words, search_indexes;

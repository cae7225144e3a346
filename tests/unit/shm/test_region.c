/* test_region.c: the region's making, mapping, sealing, and what a child refuses to open. */
#include "lib/shm_fixture.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <cmocka.h>

#define RING_BYTES (1u << 20)

static struct shm_fixture fixture;

static int setup(void **state)
{
    (void)state;
    shm_fixture_init(&fixture, 3, RING_BYTES);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    shm_fixture_destroy(&fixture);
    return 0;
}

static void test_payload_is_mapped_twice_back_to_back(void **state)
{
    uint8_t *payload = fixture.master.payload;

    (void)state;
    for (uint32_t at = 0; at < RING_BYTES; at += 4093)
        payload[at] = (uint8_t)(at * 7);
    for (uint32_t at = 0; at < RING_BYTES; at += 4093)
        assert_int_equal(payload[RING_BYTES + at], (uint8_t)(at * 7));
    payload[2 * RING_BYTES - 1] = 99;
    assert_int_equal(payload[RING_BYTES - 1], 99);
}

static void test_size_is_what_region_bytes_says(void **state)
{
    struct stat st;
    uint64_t bytes[2];

    (void)state;
    region_bytes(&fixture.config, bytes);
    assert_int_equal(fstat(fixture.master.fd, &st), 0);
    assert_int_equal(st.st_size, bytes[0]);
    assert_int_equal(fixture.master.header->region_bytes, bytes[0]);
    assert_int_equal(bytes[1],
                     RING_BYTES + RING_BYTES / RING_UNIT_BYTES * 8 + DIRECTORY_BUCKETS * 8);
}

static void test_of_large_tables_only_ring_commit_words_and_directory_take_memory_at_start(
    void **state)
{
    const struct shm_header *h = fixture.master.header;
    int fd = fixture.master.fd;

    (void)state;
    assert_int_equal(lseek(fd, (off_t)h->commits_offset, SEEK_HOLE), (off_t)h->region_bytes);
    assert_true(lseek(fd, (off_t)h->directory_offset, SEEK_HOLE) >=
                (off_t)(h->directory_offset + DIRECTORY_BUCKETS * 8));
    /* From the sessions on, the first page that exists is the first of the commit words. */
    assert_int_equal(lseek(fd, (off_t)h->sessions_offset, SEEK_DATA), (off_t)h->commits_offset);
}

static void test_nobody_can_cut_or_grow_the_file(void **state)
{
    (void)state;
    assert_int_equal(ftruncate(fixture.master.fd, 4096), -1);
    assert_int_equal(errno, EPERM);
    assert_int_equal(ftruncate(fixture.master.fd, 1 << 30), -1);
    assert_int_equal(errno, EPERM);
}

static void test_a_fresh_region_has_no_commit_no_intent_and_nobody_parked(void **state)
{
    const struct region *r = &fixture.master;

    (void)state;
    for (uint64_t unit = 0; unit < RING_BYTES / RING_UNIT_BYTES; unit++)
        assert_int_equal(r->commits[unit], 0);
    for (uint32_t slot = 0; slot < PEAL_SLOTS_ALL; slot++) {
        assert_true(r->header->slots[slot].intent_at == RING_NO_INTENT);
        assert_true(r->header->slots[slot].parked == RING_NOT_PARKED);
    }
    assert_true(r->header->epoch != 0);
    assert_true(r->header->hash_key[0] != r->header->hash_key[1]);
    assert_true(r->header->host_id < 1u << 24);
}

static void test_a_child_sees_what_the_master_made(void **state)
{
    struct region child;
    int bells[PEAL_SLOTS_ALL];

    (void)state;
    for (int slot = 0; slot < PEAL_SLOTS_ALL; slot++)
        bells[slot] = slot + 1000;
    assert_int_equal(region_open(&child, dup(fixture.master.fd), 2, bells), 0);
    assert_int_equal(child.self, 2);
    assert_int_equal(child.bells[64], 1064);
    assert_ptr_not_equal(child.header, fixture.master.header);
    assert_int_equal(child.config->workers, 3);
    fixture.master.header->ring.tail = 77;
    assert_int_equal(child.header->ring.tail, 77);
    fixture.master.payload[5] = 123;
    assert_int_equal(child.payload[5], 123);
    assert_int_equal(child.payload[RING_BYTES + 5], 123);
    region_close(&child);
}

static int open_and_close(int fd)
{
    struct region child;
    int bells[PEAL_SLOTS_ALL] = { 0 };
    int copy = dup(fd);
    int error = region_open(&child, copy, 0, bells);

    if (error == 0) {
        region_close(&child);
    } else {
        assert_int_equal(child.fd, -1);
        assert_int_equal(close(copy), 0); /* still ours */
    }
    return error;
}

static void test_a_child_refuses_another_version_magic_or_layout(void **state)
{
    struct shm_header *h = fixture.master.header;
    uint64_t *const words[] = { &h->magic,           &h->region_bytes,     &h->config_offset,
                                &h->config_bytes,    &h->counters_offset,  &h->namespaces_offset,
                                &h->sessions_offset, &h->directory_offset, &h->commits_offset,
                                &h->payload_offset,  &h->ring.units };
    uint32_t *const halves[] = { &h->version, &h->header_bytes, &h->sessions_per_slot };

    (void)state;
    assert_int_equal(open_and_close(fixture.master.fd), 0);
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) {
        *words[i] += 64;
        assert_int_equal(open_and_close(fixture.master.fd), -EPROTO);
        *words[i] -= 64;
    }
    for (size_t i = 0; i < sizeof halves / sizeof halves[0]; i++) {
        *halves[i] += 1;
        assert_int_equal(open_and_close(fixture.master.fd), -EPROTO);
        *halves[i] -= 1;
    }
    assert_int_equal(open_and_close(fixture.master.fd), 0);
}

static void test_a_child_refuses_a_file_that_is_none(void **state)
{
    int bells[PEAL_SLOTS_ALL] = { 0 };
    int fd = memfd_create("short", MFD_CLOEXEC);
    struct region child;

    (void)state;
    assert_true(fd >= 0);
    assert_int_equal(open_and_close(fd), -EPROTO);
    assert_int_equal(ftruncate(fd, 1 << 20), 0);
    assert_int_equal(open_and_close(fd), -EPROTO);
    assert_int_equal(close(fd), 0);
    assert_int_equal(region_open(&child, -1, 0, bells), -EBADF);
    assert_int_equal(region_open(&child, fixture.master.fd, PEAL_SLOTS_ALL, bells), -EINVAL);
}

static void test_impossible_configurations_are_refused(void **state)
{
    struct config config = { .workers = 0, .ring_bytes = RING_BYTES };
    struct region r;
    uint64_t bytes[2];

    (void)state;
    assert_int_equal(region_create(&r, &config), -EINVAL);
    config.workers = PEAL_WORKERS_MAX + 1;
    assert_int_equal(region_create(&r, &config), -EINVAL);
    config.workers = 1;
    config.ring_bytes = RING_BYTES + 4096;
    assert_int_equal(region_create(&r, &config), -EINVAL);
    config.ring_bytes = RING_BYTES / 2;
    assert_int_equal(region_create(&r, &config), -EINVAL);
    region_bytes(&config, bytes);
    assert_int_equal(bytes[0], 0);
}

static void test_session_indices_fit_their_bits_for_any_number_of_workers(void **state)
{
    struct config config = { .ring_bytes = RING_BYTES };

    (void)state;
    for (uint32_t workers = 1; workers <= PEAL_WORKERS_MAX; workers += 61) {
        struct region r;

        config.workers = workers;
        assert_int_equal(region_create(&r, &config), 0);
        assert_true((uint64_t)r.header->sessions_per_slot * workers <= 1u << SESSION_INDEX_BITS);
        assert_true((uint64_t)r.header->sessions_per_slot * workers > 16000000);
        region_close(&r);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_payload_is_mapped_twice_back_to_back, setup, teardown),
        cmocka_unit_test_setup_teardown(test_size_is_what_region_bytes_says, setup, teardown),
        cmocka_unit_test_setup_teardown(
            test_of_large_tables_only_ring_commit_words_and_directory_take_memory_at_start, setup,
            teardown),
        cmocka_unit_test_setup_teardown(test_nobody_can_cut_or_grow_the_file, setup, teardown),
        cmocka_unit_test_setup_teardown(
            test_a_fresh_region_has_no_commit_no_intent_and_nobody_parked, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_child_sees_what_the_master_made, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_child_refuses_another_version_magic_or_layout, setup,
                                        teardown),
        cmocka_unit_test(test_a_child_refuses_a_file_that_is_none),
        cmocka_unit_test(test_impossible_configurations_are_refused),
        cmocka_unit_test(test_session_indices_fit_their_bits_for_any_number_of_workers),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

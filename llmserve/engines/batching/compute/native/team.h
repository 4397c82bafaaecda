// The threads of one step: how they share tasks and wait for each other.
#pragma once

#include <sched.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <vector>

#include "lanes.h"

namespace llmserve {

// What the members of a team share. One step uses it at a time.
class Team {
  public:
    explicit Team(int max_members) : counters_(kRounds * max_members), max_members_(max_members) {}

    int max_members() const { return max_members_; }

  private:
    friend class Member;
    static constexpr int kRounds = 4;
    struct alignas(64) Counter {
        std::atomic<int64_t> next{0};
    };
    Counter& counter(int64_t round, int member) {
        return counters_[(round % kRounds) * max_members_ + member];
    }

    std::vector<Counter> counters_;
    int max_members_;
    alignas(64) std::atomic<int> arrived_{0};
    alignas(64) std::atomic<uint32_t> generation_{0};
};

// One thread of the team, for one step.
class Member {
  public:
    Member(Team& team, int index, int size) : team_(team), index_(index), size_(size) {
        for (int round = 0; round < Team::kRounds; ++round) reset(round);
        wait();
    }

    int index() const { return index_; }
    int size() const { return size_; }

    // The first of `tasks` that belongs to this member in a round.
    int64_t first(int64_t tasks) const { return tasks * index_ / size_; }

    // Runs its own range of the tasks, then what slower neighbours have not begun (work stealing):
    // a thread that lost its core delays the others by one task at most. Returns without a barrier.
    template <class Run>
    void share(int64_t tasks, Run run) {
        // No thread is still in the round that used these counters last: two barriers ago.
        reset(round_ + 2);
        const int victims = std::min(size_, kNeighbours);
        for (int step = 0; step < victims; ++step) {
            const int victim = (index_ + step) % size_;
            const int64_t begin = tasks * victim / size_, end = tasks * (victim + 1) / size_;
            auto& next = team_.counter(round_, victim).next;
            while (begin + next.load(std::memory_order_relaxed) < end) {
                const int64_t task = begin + next.fetch_add(1, std::memory_order_relaxed);
                if (task >= end) break;
                run(task);
            }
        }
        ++round_;
    }

    // A barrier. Spins for some 50 microseconds, then yields this core, which the missing thread
    // may be waiting for, and sleeps only after a millisecond or so: when a thread sleeps, its core
    // is idle, the missing thread is moved there, and both then share it for several milliseconds
    // while the other core is free.
    void wait() {
        if (size_ == 1) return;
        const uint32_t generation = team_.generation_.load(std::memory_order_acquire);
        if (team_.arrived_.fetch_add(1, std::memory_order_acq_rel) == size_ - 1) {
            team_.arrived_.store(0, std::memory_order_relaxed);
            team_.generation_.store(generation + 1, std::memory_order_release);
            team_.generation_.notify_all();
            return;
        }
        for (int spin = 0; spin < kSpins; ++spin) {
            if (team_.generation_.load(std::memory_order_acquire) != generation) return;
            pause_thread();
        }
        for (int turn = 0; turn < kTurns; ++turn) {
            if (team_.generation_.load(std::memory_order_acquire) != generation) return;
            sched_yield();
        }
        team_.generation_.wait(generation, std::memory_order_acquire);
    }

  private:
    static constexpr int kNeighbours = 8;
    static constexpr int kSpins = 1500, kTurns = 3000;

    void reset(int64_t round) {
        team_.counter(round, index_).next.store(0, std::memory_order_relaxed);
    }

    Team& team_;
    int index_, size_;
    int64_t round_ = 0;
};

}  // namespace llmserve

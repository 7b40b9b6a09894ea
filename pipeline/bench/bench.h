// `nudge bench WHAT`: measures a part of nudge beside the limit that the machine sets, and prints a
// table. Never run as a test of speed; machines differ, so only ratios within one run count.
//
// Main thread only. StartError leaves them (no room for scratch files, a missing model).
#pragma once

#include <cstddef>
#include <string>
#include <vector>

namespace nudge {

// The engine alone, file to file, on the template backend.
struct BenchEngineArguments {
  size_t events = 300'000;
  size_t tenants = 50;
  size_t documents = 100;  // ids per tenant
  size_t dimension = 384;  // of the stand-in for the embedder; 0: none
  std::vector<int> threads = {1, 2};
};
int BenchEngine(const BenchEngineArguments& arguments);

// Live topics, which it makes on the configured brokers and leaves there.
struct BenchKafkaArguments {
  std::string config_path;
  size_t events = 300'000;
  size_t tenants = 50;
  size_t dimension = 0;  // as above
  int partitions = 6;
  int threads = 2;
  double minutes = 0;   // a steady load for so long instead
  double rate = 5'000;  // of the steady load, events a second
};
int BenchKafka(const BenchKafkaArguments& arguments);

// The embedded log, in a folder whose disk is the one to measure.
struct BenchLogArguments {
  std::string folder;  // empty: where temporary files go
  size_t events = 200'000;
  size_t bytes = 300;  // of an event
  std::vector<size_t> in_flight = {1, 16, 256, 4096};
};
int BenchLog(const BenchLogArguments& arguments);

// The door of `nudge serve` with the template backend, beside a bare loop of the library under it.
struct BenchHttpArguments {
  std::string folder;       // on the disk to measure; empty: where temporary files go
  size_t requests = 3'000;  // of each run
  std::vector<size_t> connections = {1, 16, 256};
  size_t streams = 10'000;  // of news that idle; 0: not measured
};
int BenchHttp(const BenchHttpArguments& arguments);

// In place of the configured language model one of random weights, for as long as it is measured.
struct RandomModelArguments {
  std::string shape;  // stages/model/serve/random_model.h; empty: the configured model
  size_t layers = 0;  // of them the first; 0: all
};

// A gradient step of the configured language model, and what a feedback costs while it serves.
struct BenchTrainArguments {
  std::string config_path;  // empty: defaults; then random.shape is not
  RandomModelArguments random;
  std::vector<size_t> tokens = {64, 128, 256, 512};
  std::vector<int> threads = {1, 2};
  int lessons = 6;     // of each way to measure what a feedback costs; 0: not measured
  std::string beside;  // llama.cpp's llama-bench, to compare with; empty: no comparison
};
int BenchTrain(const BenchTrainArguments& arguments);

// The answer engine on the configured language model's file, beside llama.cpp as it serves it.
struct BenchAnswersArguments {
  std::string config_path;  // as above
  RandomModelArguments random;
  std::vector<size_t> prompts = {105, 300, 900};  // tokens
  std::vector<size_t> depths = {100, 500};        // tokens before those that are drawn
  size_t sequences = 16;                          // at a time, an adapter each
  int questions = 10;                             // alone until their outcomes; 0: not measured
  std::vector<int> threads = {1, 2};
};
int BenchAnswers(const BenchAnswersArguments& arguments);

}  // namespace nudge

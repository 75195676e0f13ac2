// The number of threads that the kernels use.
#include "threads.h"

#include "simd.h"

// ->  the previous number
int set_threads(int count) {
    int previous = max_threads();
#if defined(_OPENMP)
    if (count > 0) omp_set_num_threads(count);
#endif
    return previous;
}
